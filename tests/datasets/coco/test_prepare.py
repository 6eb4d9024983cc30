"""COCO's lists: what they hold, other people's masks, and what is refused at once."""

import json
import shutil

import numpy as np
import pytest
from coco_case import annotation, edit, prepare, write_root
from PIL import Image

from datasets.coco import COCO
from datasets.coco.layout import TRAIN, VAL
from datasets.labels import column_labels
from datasets.lists import read_list
from datasets.mini_voc.coco import CATEGORY_IDS, MiniCocoSettings, generate_coco


def lists_of(root):
    info = COCO.at(root)
    return [read_list(root / split.list, root, info) for split in (TRAIN, VAL)]


def error_of(result):
    assert result.returncode == 2 and "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_lists_hold_every_image_with_its_labels(prepared_coco):
    for split, entries in zip((TRAIN, VAL), lists_of(prepared_coco), strict=True):
        content = json.loads((prepared_coco / split.annotations).read_text())
        ids = {image["file_name"]: image["id"] for image in content["images"]}
        assert sorted(ids) == [entry.image.name for entry in entries]
        empty = 0
        for entry in entries:
            assert entry.image.is_file() and not entry.exif
            assert (entry.mask is None) if split is TRAIN else entry.mask.is_file()
            found = {
                COCO.classes[1 + place]
                for place in np.flatnonzero(column_labels(entry, COCO.classes))
            }
            wanted = {
                each["category_id"]
                for each in content["annotations"]
                if each["image_id"] == ids[entry.image.name]
            }
            assert {CATEGORY_IDS[name] for name in found} == wanted
            empty += not wanted
        assert empty == len(entries) // 20


def test_masks_of_the_training_images_come_on_request_and_stay(coco_copy):
    assert not (coco_copy / TRAIN.masks).exists()
    assert prepare(coco_copy, "--train-masks").returncode == 0
    train, _ = lists_of(coco_copy)
    assert all(entry.mask.is_file() for entry in train)
    assert "nothing to do" in prepare(coco_copy).stdout
    assert prepare(coco_copy, "--check").returncode == 0


class TestMasksOfOthers:
    @pytest.fixture
    def given(self, prepared_coco, tmp_path):
        return shutil.copytree(prepared_coco / VAL.masks, tmp_path / "theirs" / "val2014").parent

    def test_they_are_linked_in_the_place_of_ours(self, drawn_coco, given, tmp_path):
        root = shutil.copytree(drawn_coco, tmp_path / "data")
        assert prepare(root, "--masks", given).returncode == 0
        assert (root / VAL.masks).samefile(given / "val2014")
        _, val = lists_of(root)
        assert len(val) == 40 and all(entry.mask.is_file() for entry in val)
        assert prepare(root, "--check").returncode == 0
        # without the option they stay, and nothing is written into them
        before = sorted(given.rglob("*"))
        assert "nothing to do" in prepare(root).stdout
        assert sorted(given.rglob("*")) == before

    def test_names_may_be_ids_and_images_without_objects_may_lack(
        self, drawn_coco, given, tmp_path
    ):
        root = shutil.copytree(drawn_coco, tmp_path / "data")
        content = json.loads((root / VAL.annotations).read_text())
        with_objects = {each["image_id"] for each in content["annotations"]}
        flat = tmp_path / "flat"
        flat.mkdir()
        for image in content["images"]:
            if image["id"] in with_objects:
                mask = given / "val2014" / image["file_name"].replace(".jpg", ".png")
                shutil.copy(mask, flat / f"{image['id']:012d}.png")
        result = prepare(root, "--masks", flat)
        assert result.returncode == 0 and "note: 2 images without objects" in result.stdout
        _, val = lists_of(root)
        assert len(val) == 38 and all(entry.mask.is_file() for entry in val)
        rows = [line.split() for line in prepare(root, "--check").stdout.splitlines()]
        assert ["val_coco.csv", "38", "-", "40", "38", "0"] in rows

        lost = sorted(flat.iterdir())[0]
        lost.unlink()
        assert "lacks masks of images with objects, 1 in all" in error_of(prepare(root))

    def test_values_that_are_no_classes_are_found(self, drawn_coco, given, tmp_path):
        root = shutil.copytree(drawn_coco, tmp_path / "data")
        path = sorted((given / "val2014").iterdir())[0]
        mask = np.array(Image.open(path))
        mask[0, 0] = 90  # a category's id, which has no place among 80 classes
        Image.fromarray(mask).save(path)
        assert prepare(root, "--masks", given).returncode == 0
        result = prepare(root, "--check")
        assert result.returncode == 2 and "holds 90" in result.stdout and path.name in result.stdout

    def test_they_do_not_replace_masks_that_are_there(self, coco_copy, given):
        line = error_of(prepare(coco_copy, "--masks", given))
        assert str(coco_copy / VAL.masks) in line and "remove" in line

    def test_a_folder_without_any_is_refused(self, coco_copy, tmp_path):
        assert "COCO_MASKS=" in error_of(prepare(coco_copy, "--masks", tmp_path))
        assert "COCO_MASKS=" in error_of(prepare(coco_copy, "--masks", tmp_path / "none"))


def test_nothing_is_made_where_an_image_is_missing(drawn_coco, tmp_path):
    root = shutil.copytree(drawn_coco, tmp_path / "data")
    lost = sorted((root / VAL.images).iterdir())[3]
    lost.unlink()
    line = error_of(prepare(root))
    assert str(lost) in line and "1 in all" in line
    assert not (root / VAL.masks).exists() and not (root / VAL.list).exists()


def test_an_empty_root_is_not_made(tmp_path):
    line = error_of(prepare(tmp_path / "none"))
    assert "launch/get_coco.sh" in line and not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["a/b.jpg", "..", "", "a\nb.jpg"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    root = write_root(tmp_path / "data", [], (4, 4))
    edit(root, TRAIN, lambda content: content["images"][0].update(file_name=name))
    assert repr(name) in error_of(prepare(root))


def test_other_categories_are_not_taken_for_coco_s(tmp_path):
    root = write_root(tmp_path / "data", [annotation(1, 1, "cat", [[0, 0, 3, 0, 3, 3]])], (4, 4))
    edit(root, VAL, lambda content: content["categories"].pop())
    assert "79 categories" in error_of(prepare(root))


@pytest.mark.parametrize(
    "options",
    [
        ["--dataset", "coko"],
        ["--dataset", "pascal_voc", "--train-masks"],
        ["--check", "--train-masks"],
        ["--official"],
        ["--workers", "0"],
    ],
)
def test_options_that_do_not_go_together(tmp_path, options):
    error_of(prepare(tmp_path, *options))
    assert not list(tmp_path.iterdir())


class TestMiniCoco:
    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_files(self, drawn_coco, tmp_path):
        generate_coco(tmp_path / "again", MiniCocoSettings(seed=3, train=24, val=40))
        for path in drawn_coco.rglob("*"):
            if path.is_file():
                again = tmp_path / "again" / path.relative_to(drawn_coco)
                assert again.read_bytes() == path.read_bytes()

    def test_all_categories_have_their_real_ids_and_20_are_drawn(self, drawn_coco):
        real = {"person": 1, "stop sign": 13, "backpack": 27, "dining table": 67, "toilet": 70}
        real |= {"tv": 72, "refrigerator": 82, "book": 84, "toothbrush": 90}
        drawn = set()
        for split in (TRAIN, VAL):
            content = json.loads((drawn_coco / split.annotations).read_text())
            ids = {each["name"]: each["id"] for each in content["categories"]}
            assert len(ids) == 80 and {name: ids[name] for name in real} == real
            assert list(ids) == list(COCO.classes[1:])
            drawn |= {each["category_id"] for each in content["annotations"]}
        assert len(drawn) == 20

    def test_objects_overlap_and_some_are_crowds(self, drawn_coco):
        content = json.loads((drawn_coco / VAL.annotations).read_text())
        crowds = [each for each in content["annotations"] if each["iscrowd"]]
        assert crowds and all(isinstance(each["segmentation"], dict) for each in crowds)
        assert len({each["id"] for each in content["annotations"]}) == len(content["annotations"])
