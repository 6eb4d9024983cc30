"""Files that a list names and that are not there."""

import shutil

import pytest

from datasets.lists import ListEntry, read_list, require_files
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


@pytest.fixture
def entries(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            (tmp_path / folder / name).touch()
    lines = "".join(f"images/{name} masks/{name}\n" for name in "abc")
    (tmp_path / "list.txt").write_text(lines)
    return read_list(tmp_path / "list.txt", tmp_path)


def test_files_that_are_there_are_not_opened(entries, tmp_path):
    require_files(entries, tmp_path, PASCAL_VOC)  # they are empty, so that opening them would fail


def test_the_first_is_named_and_the_others_are_counted(entries, tmp_path):
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "masks" / "b").unlink()
    with pytest.raises(UserError) as caught:
        require_files(entries, tmp_path, PASCAL_VOC)
    line = str(caught.value)
    for part in (f"image {tmp_path / 'images/a'} ", " 3 more of the 6 files", "DATASET.PATH"):
        assert part in line
    # they are a user's own, which no command brings
    assert PASCAL_VOC.get_script not in line


def test_files_of_voc_come_by_a_command(tmp_path):
    entries = [ListEntry(tmp_path / "voc" / "VOCdevkit" / "a.jpg", None)]
    with pytest.raises(UserError, match=f"DATA_ROOT={tmp_path} bash {PASCAL_VOC.get_script}"):
        require_files(entries, tmp_path, PASCAL_VOC)
    (tmp_path / "voc").mkdir()
    with pytest.raises(UserError, match=f"datasets.prepare --root {tmp_path} --check"):
        require_files(entries, tmp_path, PASCAL_VOC)


def test_one_mask(entries, tmp_path):
    (tmp_path / "masks" / "b").unlink()
    with pytest.raises(UserError, match=r"^mask .*masks/b does not exist of the 6 files"):
        require_files(entries, tmp_path, PASCAL_VOC)


def test_lists_without_masks_and_files_in_place_of_folders(entries, tmp_path):
    require_files([ListEntry(entry.image, None) for entry in entries], tmp_path, PASCAL_VOC)
    with pytest.raises(UserError, match=r"images/a/b does not exist"):
        entry = ListEntry(tmp_path / "images" / "a" / "b", None)
        require_files([entry], tmp_path, PASCAL_VOC)
