"""EXIF orientation: VOC's images are taken as stored, photographs as they are to be seen."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import infer_val
from core.config import InferenceConfig
from core.distributed import SINGLE
from core.evaluation.evaluate import evaluate
from core.evaluation.html.examples import draw_example
from core.inference.samples import check_samples, find_images, load_sample
from core.inference.voc_submission import pack
from core.training.data import read_labels
from datasets.files import read_ground_truth, read_mask, read_pair, write_mask
from datasets.lists import read_list
from datasets.samples import ImageLevelSamples
from datasets.transforms import to_pixels
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

OWN = replace(PASCAL_VOC, name="own", exif=True)
STORED, SEEN = (40, 60), (60, 40)  # height and width
TURN = Image.Transpose.ROTATE_270


@pytest.fixture
def root(tmp_path):
    """A JPEG of orientation 6, a mask of it as stored, one as it is seen, and lists."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((*STORED, 3), np.uint8)
    pixels[:, :30] = 255  # left, which is seen above
    (tmp_path / "VOCdevkit").mkdir()
    for path in (tmp_path / "a.jpg", tmp_path / "VOCdevkit" / "a.jpg"):
        Image.fromarray(pixels).save(path, exif=exif)
    mask = np.where(pixels[..., 0] > 0, 7, 0).astype(np.uint8)
    write_mask(tmp_path / "stored.png", mask, PASCAL_VOC.palette)
    seen = np.array(Image.fromarray(mask).transpose(TURN))
    assert seen[:30].all() and not seen[30:].any()
    write_mask(tmp_path / "seen.png", seen, PASCAL_VOC.palette)
    for voc, mine in (("stored", "mine_stored"), ("seen", "mine_seen"), ("test", "mine")):
        mask = "" if voc == "test" else f"{voc}.png"
        (tmp_path / f"{voc}.txt").write_text(f"VOCdevkit/a.jpg {mask}\n")
        (tmp_path / f"{mine}.txt").write_text(f"a.jpg {mask}\n")
    return tmp_path


def entry_of(root, name, info=PASCAL_VOC):
    [entry] = read_list(root / name, root, info)
    return entry


def shape_of(entry) -> tuple[int, int]:
    return load_sample(entry, InferenceConfig(), PASCAL_VOC).size


def test_what_is_turned(root):
    assert shape_of(entry_of(root, "stored.txt")) == STORED
    assert shape_of(entry_of(root, "test.txt")) == STORED
    for name in ("mine.txt", "mine_stored.txt", "mine_seen.txt"):
        assert shape_of(entry_of(root, name)) == SEEN
    for info in (PASCAL_VOC, OWN):
        for path in (root / "a.jpg", root):
            [entry] = [found for found in find_images(path, "", info)[0] if found.id == "a"]
            assert entry.mask is None and shape_of(entry) == SEEN
    for name in ("stored.txt", "seen.txt", "mine.txt", "test.txt"):
        assert shape_of(entry_of(root, name, OWN)) == SEEN
    with pytest.raises(UserError, match=r"60×40 \(height×width\), its image .* 40×60.*; .*or one"):
        shape_of(entry_of(root, "seen.txt"))


def test_a_mask_is_turned_with_its_image_if_it_fits_what_is_stored(root):
    seen = read_mask(root / "seen.png")
    lists = [(name, OWN) for name in ("stored.txt", "seen.txt")]
    lists += [(name, PASCAL_VOC) for name in ("mine_stored.txt", "mine_seen.txt")]
    for name, info in lists:
        entry = entry_of(root, name, info)
        image, mask = read_pair(entry)
        np.testing.assert_array_equal(mask, seen)
        np.testing.assert_array_equal(read_ground_truth(entry), seen)
        # the object is where the image is white
        np.testing.assert_array_equal(
            np.array(image.convert("L"))[[0, -1]] > 128, mask[[0, -1]] > 0
        )
    entry = entry_of(root, "stored.txt")
    image, mask = read_pair(entry)
    np.testing.assert_array_equal(mask, read_mask(root / "stored.png"))
    np.testing.assert_array_equal(read_ground_truth(entry), mask)
    assert (image.height, image.width) == STORED
    # masks are compared without their images, too
    (root / "a.jpg").unlink()
    found = read_ground_truth(entry_of(root, "mine_stored.txt"))
    np.testing.assert_array_equal(found, mask)


def test_evaluation_and_its_pictures(root):
    for name, info, size in (("stored.txt", PASCAL_VOC, STORED), ("stored.txt", OWN, SEEN)):
        entry = entry_of(root, name, info)
        drawn = draw_example(entry, [lambda _, truth: truth], info)
        assert drawn.size == size[::-1]
        expected = read_mask(root / ("stored.png" if size == STORED else "seen.png"))
        histogram = evaluate([entry], lambda _, truth, expected=expected: expected, info).histogram
        assert histogram[7, 7] == histogram[0, 0] == 1200 and histogram.sum() == 2400


def test_training_reads_images_alike(root, capsys):
    for name, info, size in (
        ("stored.txt", PASCAL_VOC, STORED),
        ("stored.txt", OWN, SEEN),
        ("seen.txt", OWN, SEEN),
    ):
        samples = ImageLevelSamples([entry_of(root, name, info)], to_pixels, 0)
        read_labels([(name, samples)], info, SINGLE)
        image, labels = samples[0, 0]
        assert image.shape == (3, *size) and torch.equal(labels, torch.eye(20)[6])
    with pytest.raises(UserError, match=r"60×40 \(height×width\), its image .* 40×60.*; .*or one"):
        read_labels([("x", ImageLevelSamples([entry_of(root, "seen.txt")], None, 0))], OWN, SINGLE)


def test_masks_are_written_in_the_size_of_the_image_as_it_is_taken(
    root, trained, tmp_path, monkeypatch
):
    for name, size in (("test.txt", STORED), ("mine.txt", SEEN)):
        masks = tmp_path / f"masks of {name}"
        words = ["--cfg", trained.config, "--snapshot", trained.snapshot, "--device", "cpu"]
        words += ["--mask-output-dir", masks, "--workers", "0", "--infer-list", root / name]
        words += ["--set", "TEST.DATA_ROOT", root]
        monkeypatch.setattr(sys, "argv", ["infer_val.py", *map(str, words)])
        infer_val.main()
        for kind in ("", "crf", "vis"):
            with Image.open(masks / kind / "a.png") as found:
                assert (found.height, found.width)[0] == size[0]
        entries = read_list(root / name, root, PASCAL_VOC)
        sizes = check_samples(entries, InferenceConfig(), 1, root, PASCAL_VOC)
        assert sizes == {str(entries[0].image): size}
        pack(entries, masks, PASCAL_VOC, tmp_path / "out.tgz")
