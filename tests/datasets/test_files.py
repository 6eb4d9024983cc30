"""Opening and writing images and masks; what is known of data sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.files import labels_of_mask, read_image, read_mask, write_mask
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


@pytest.mark.parametrize("root", ["data", "./data"])
def test_the_default_root_needs_no_name(root):
    assert PASCAL_VOC.get_command(Path(root)) == "bash launch/get_data.sh"


def test_a_mask_comes_back_as_written(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "new" / "m.png", mask, PASCAL_VOC.palette)
    assert np.array_equal(read_mask(tmp_path / "new" / "m.png"), mask)
    image = Image.open(tmp_path / "new" / "m.png")
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((15, 0)) == (192, 128, 128)  # VOC's colour of a person


def test_grey_masks_are_indices_and_colours_are_refused(tmp_path):
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(tmp_path / "grey.png")
    assert np.array_equal(read_mask(tmp_path / "grey.png"), np.full((2, 3), 7))
    for mode, words in (
        ("RGB", "holds colours"),
        ("1", "is black and white"),
        ("LA", "is of Pillow's mode LA"),
    ):
        Image.new(mode, (3, 2)).save(tmp_path / "colour.png")
        with pytest.raises(UserError, match=rf"colour\.png {words}; .* class indices$"):
            read_mask(tmp_path / "colour.png")


def test_images_become_rgb(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (9, 9, 9))


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_files_that_do_not_open_are_named(tmp_path, read):
    with pytest.raises(UserError, match=r"none\.png does not exist"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(
        tmp_path / "cut.png"
    )
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "cut.png"):
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)


def test_labels_leave_out_background_and_ambiguous():
    mask = np.array([[0, 255, 1], [20, 20, 0]], np.uint8)
    labels = labels_of_mask(mask, 21)
    assert labels.dtype == np.float32 and labels.shape == (20,)
    assert np.flatnonzero(labels).tolist() == [0, 19]
    assert not labels_of_mask(np.zeros((2, 2), np.uint8), 21).any()


def test_the_info_of_voc():
    assert PASCAL_VOC.num_classes == 21
    assert PASCAL_VOC.classes[16] == "potted-plant" and PASCAL_VOC.classes[20] == "tv/monitor"
    assert len(PASCAL_VOC.palette) == 768
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, colour in known.items():
        assert PASCAL_VOC.palette[3 * index : 3 * index + 3] == colour
    lists = {PASCAL_VOC.train_list, PASCAL_VOC.val_train_list, PASCAL_VOC.val_list}
    assert lists < set(PASCAL_VOC.expected_counts)
