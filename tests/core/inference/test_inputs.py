"""Which images a list, a folder or a file stands for, and the labels of a sample."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.config import load_config
from core.inference.samples import find_images, load_sample
from datasets.files import write_mask
from datasets.lists import ListEntry, require_unique_ids
from datasets.voc import PASCAL_VOC
from utils.errors import UserError
from utils.files import ignores_case


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_a_folder_stands_for_its_images(tmp_path):
    touch(tmp_path, "b.JPG", "a photo.png", "c.tif", "notes.txt", ".hidden.jpg", "._b.JPG", "x")
    (tmp_path / "deeper.png").mkdir()
    touch(tmp_path / "deeper.png", "d.png")
    entries, skipped = find_images(tmp_path, "nowhere")
    assert entries == [
        ListEntry(tmp_path / name, None) for name in ("a photo.png", "b.JPG", "c.tif")
    ]
    others = "deeper.png/, notes.txt, x"
    assert skipped == f"left out, as folders or no images by their suffix: {others} ({tmp_path})"


def test_a_link_to_an_image_that_is_gone_is_not_passed_over(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.txt").symlink_to("gone.txt")
    assert [entry.id for entry in find_images(tmp_path, "")[0]] == ["a", "b"]
    (tmp_path / "c.jpg").symlink_to("gone.jpg")
    with pytest.raises(UserError, match=r"c\.jpg.* link"):
        find_images(tmp_path, "")


def test_many_other_files_are_counted(tmp_path):
    touch(tmp_path, "a.png", *(f"{number}.txt" for number in range(5)))
    _, skipped = find_images(tmp_path, "")
    assert "suffix: 0.txt, 1.txt, 2.txt and 2 more" in skipped


def test_a_folder_of_images_alone_needs_no_line(tmp_path):
    touch(tmp_path, "a.png")
    assert find_images(tmp_path, "")[1] == ""


def test_a_folder_without_images(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(UserError, match=f"no images in {tmp_path}"):
        find_images(tmp_path, "")


def test_one_image(tmp_path):
    touch(tmp_path, "a b.jpeg")
    assert find_images(tmp_path / "a b.jpeg", "nowhere") == (
        [ListEntry(tmp_path / "a b.jpeg", None)],
        "",
    )
    with pytest.raises(UserError, match=r"no image .*gone\.jpg"):
        find_images(tmp_path / "gone.jpg", "nowhere")


def test_anything_else_is_a_list(tmp_path):
    (tmp_path / "list").write_text("a.jpg a.png\nb.jpg\n")
    root = tmp_path / "root"
    assert find_images(tmp_path / "list", root) == (
        [ListEntry(root / "a.jpg", root / "a.png"), ListEntry(root / "b.jpg", None)],
        "",
    )


def test_names_that_collide(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would write the same result a\.png"):
        require_unique_ids(find_images(tmp_path, "")[0], tmp_path)


def test_names_that_collide_where_case_does_not_count(tmp_path):
    entries = [ListEntry(tmp_path / name, None) for name in ("a.jpg", "A.png")]
    require_unique_ids(entries, tmp_path, ignore_case=False)
    with pytest.raises(UserError, match=r"a\.jpg and .*A\.png"):
        require_unique_ids(entries, tmp_path, ignore_case=True)
    touch(tmp_path, "x")
    assert ignores_case(tmp_path) == (tmp_path / "X").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def vector(*indices):
    expected = np.zeros(20, np.float32)
    for index in indices:
        expected[index - 1] = 1
    return expected


def test_labels_of_a_sample(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg")
    write_mask(tmp_path / "a.png", np.array([[0, 8, 255], [8, 8, 3]]), PASCAL_VOC.palette)
    entry = ListEntry(tmp_path / "a.jpg", tmp_path / "a.png")
    test = load_config(None).TEST
    assert load_sample(entry, test, PASCAL_VOC).labels is None
    with_masks = replace(test, USE_GT_LABELS=True)
    np.testing.assert_array_equal(load_sample(entry, with_masks, PASCAL_VOC).labels, vector(3, 8))
    given = load_sample(entry, test, PASCAL_VOC, {"a": vector(1)})
    np.testing.assert_array_equal(given.labels, vector(1))
    without_mask = load_sample(ListEntry(entry.image, None), test, PASCAL_VOC, {"a": vector(1)})
    np.testing.assert_array_equal(without_mask.labels, vector(1))
    assert without_mask.ground_truth is None
