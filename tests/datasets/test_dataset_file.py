"""A data set is a file: every key, what is taken where one is missing, and every mistake."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import yaml

from datasets.dataset_file import (
    DATASET_FILE,
    KEYS,
    dataset_yaml,
    get_dataset_info,
    read_dataset,
)
from datasets.info import DatasetInfo
from datasets.voc import PASCAL_VOC
from utils.errors import UserError
from utils.palette import voc_palette

SMALL = {"names": ["cat", "dog"], "train": "train.txt", "val": "val.txt"}
FULL = """
name: Vögel am See
path: data
names: [Rotkehlchen, großer Specht, "no", tv/monitor]
train: lists/train.csv
val: /elsewhere/val.txt
val_train: some.txt
labels: labels.csv
palette: [[0, 0, 0], "#ff8000", [0, 90, 180], "#010203", [255, 255, 255]]
ignore_index: 200
exif: false
counts: {train.csv: 900}
"""


def write(folder: Path, content: object, name: str = DATASET_FILE) -> Path:
    path = folder / name
    text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    return path


def changed(**changes: object) -> dict[str, object]:
    """The smallest data set with other keys; None takes one out."""
    return {key: value for key, value in (SMALL | changes).items() if value is not None}


def test_every_key(tmp_path):
    info = read_dataset(write(tmp_path, FULL))
    assert info == DatasetInfo(
        name="Vögel am See",
        classes=("background", "Rotkehlchen", "großer Specht", "no", "tv/monitor"),
        train_list="lists/train.csv",
        val_list="/elsewhere/val.txt",
        val_train_list="some.txt",
        labels="labels.csv",
        palette=(0, 0, 0, 255, 128, 0, 0, 90, 180, 1, 2, 3, 255, 255, 255, *voc_palette()[15:]),
        ignore_index=200,
        exif=False,
        path=tmp_path / "data",
        expected_counts={"train.csv": 900},
    )
    assert info.labels_path == tmp_path / "data/labels.csv" and info.num_classes == 5
    # no key is left out of the file above but that of what installs a data set
    assert set(yaml.safe_load(FULL)) == {*KEYS} - {"install"}


def test_three_keys_are_enough(tmp_path):
    folder = tmp_path / "my birds"
    folder.mkdir()
    info = read_dataset(write(folder, SMALL))
    assert info == DatasetInfo(
        "my birds", ("background", "cat", "dog"), "train.txt", "val.txt", path=folder
    )
    assert (info.exif, info.ignore_index, info.palette) == (True, 255, voc_palette())
    assert (info.labels, info.val_train_list, info.expected_counts) == ("", "", {})
    # a file of another name names the data set
    assert read_dataset(write(folder, SMALL, "zoo.yaml")).name == "zoo"


@pytest.mark.parametrize("first", [0, 1])
def test_names_as_a_mapping(tmp_path, first):
    names = {first + 1: "dog", first: "cat"}
    assert read_dataset(write(tmp_path, changed(names=names))).classes[1:] == ("cat", "dog")


def test_names_are_composed(tmp_path):
    names = [unicodedata.normalize("NFD", "Käfer")]
    info = read_dataset(write(tmp_path, changed(names=names)))
    assert info.classes[1] == unicodedata.normalize("NFC", "Käfer")


def test_where_the_data_root_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    roots = {
        "sub/deeper": tmp_path / "sub/deeper",
        "..": tmp_path / "..",
        "/data": Path("/data"),
        "~/data": tmp_path / "home/data",
    }
    for path, root in roots.items():
        assert read_dataset(write(tmp_path, changed(path=path))).path == root


@pytest.mark.parametrize("content", [FULL, SMALL], ids=["full", "small"])
def test_a_copy_may_lie_anywhere(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    write(Path("there"), content)
    info = read_dataset(Path("there/dataset.yaml"))
    assert not info.path.is_absolute()
    Path("elsewhere").mkdir()
    copy = read_dataset(write(Path("elsewhere"), dataset_yaml(info)))
    for field in ("name", "classes", "palette", "ignore_index", "exif", "expected_counts"):
        assert getattr(copy, field) == getattr(info, field), field
    assert copy.path == tmp_path / info.path
    # not resolved, so that a data set that was moved is read with one other path
    for field in ("train_list", "val_list", "val_train_list", "labels"):
        assert getattr(copy, field) == getattr(info, field), field
    # and the copy of the copy is the copy
    assert dataset_yaml(copy) == dataset_yaml(info)


def test_a_missing_list_of_its_own_is_one_of_a_missing_path(tmp_path):
    info = read_dataset(write(tmp_path, FULL))
    for name in (info.train_list, info.val_list, info.val_train_list):
        assert "DATASET.PATH" in info.remedy_for_list(info.path / name, info.path)
    assert "DATASET.PATH" not in info.remedy_for_list(tmp_path / "mine.txt", info.path)


def test_a_copy_of_pascal_voc_helps_as_it_does(tmp_path):
    copy = read_dataset(write(tmp_path, dataset_yaml(PASCAL_VOC.at(tmp_path))))
    assert (copy.name, copy.classes, copy.exif) == ("pascal_voc", PASCAL_VOC.classes, False)
    assert copy.expected_counts == PASCAL_VOC.expected_counts
    for name in PASCAL_VOC.expected_counts:
        lists = [info.remedy_for_list(tmp_path / name, tmp_path) for info in (copy, PASCAL_VOC)]
        assert lists[0] == lists[1] != "check its path"
    image = tmp_path / "voc/VOCdevkit/a.jpg"
    assert copy.remedy_for_file(image, tmp_path) == PASCAL_VOC.remedy_for_file(image, tmp_path)
    assert copy.turns(image) is PASCAL_VOC.turns(image) is False


def test_pascal_voc_is_the_published_one():
    objects = (
        "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
        "person potted-plant sheep sofa train tv/monitor"
    )
    assert PASCAL_VOC.classes == ("background", *objects.split())
    assert (PASCAL_VOC.train_list, PASCAL_VOC.val_list) == ("train_augvoc.txt", "val_voc.txt")
    assert PASCAL_VOC.val_train_list == "train_voc.txt"
    assert (PASCAL_VOC.ignore_index, PASCAL_VOC.exif, PASCAL_VOC.labels) == (255, False, "")
    assert PASCAL_VOC.palette == voc_palette() and PASCAL_VOC.path is None
    counts = {"train_augvoc.txt": 10582, "train_voc.txt": 1464, "val_voc.txt": 1449}
    assert PASCAL_VOC.expected_counts == counts | {"test.txt": 1456}


def test_coco_has_its_80_objects_in_the_order_of_their_ids(tmp_path):
    coco = get_dataset_info("coco")
    places = {"person": 1, "stop sign": 12, "parking meter": 13, "toothbrush": 80}
    assert coco.num_classes == 81 and coco.classes[0] == "background"
    assert {name: coco.classes.index(name) for name in places} == places
    assert (coco.train_list, coco.val_list) == ("train_coco.csv", "val_coco.csv")
    assert coco.expected_counts == {"train_coco.csv": 82783, "val_coco.csv": 40504}
    assert (coco.ignore_index, coco.exif, coco.palette) == (255, False, voc_palette())
    assert "launch/get_coco.sh" in coco.remedy_for_list(tmp_path / "val_coco.csv", tmp_path)
    assert "datasets.prepare --dataset coco --root" in coco.prepare_command(tmp_path)
    copy = read_dataset(write(tmp_path, dataset_yaml(coco.at(tmp_path))))
    assert copy.prepare_command(tmp_path) == coco.prepare_command(tmp_path)


def test_a_known_data_set_that_is_misspelt_is_told_the_known_ones():
    with pytest.raises(UserError, match=r"coko.* known data set: coco, pascal_voc"):
        get_dataset_info("coko")


def test_a_data_set_goes_by_name_file_or_folder(tmp_path, monkeypatch):
    path = write(tmp_path, SMALL)
    assert get_dataset_info("pascal_voc") is PASCAL_VOC
    by_file = get_dataset_info(str(path))
    assert get_dataset_info(tmp_path) == by_file == read_dataset(path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_dataset_info("~/dataset.yaml") == by_file


MISTAKES = {
    "unknown key": (changed(label="labels.csv"), ["label;", "labels"]),
    "a key that is a number": (changed(**{}) | {7: "a"}, ["unknown key 7"]),
    "no names": (changed(names=None), ["names"]),
    "no train": (changed(train=None), ["train"]),
    "no val": (changed(val=None), ["val"]),
    "an empty file": ("", ["names"]),
    "a list": ("- cat\n", ["names: "]),
    "no YAML": ("names: [cat\ntrain: x\n", ["line 2"]),
    "no UTF-8": (b"names: [K\xe4fer]\n", ["UTF-8"]),
    "a class twice": (changed(names=["cat", "dog", "cat"]), ["names", "'cat'"]),
    "a class twice, loosely": (
        changed(names=["Tv Monitor", "tv-monitor"]),
        ["names", "'Tv Monitor'", "'tv-monitor'"],
    ),
    "an index twice": ("names: {0: cat, 0: dog}\ntrain: a\nval: b\n", ["line 1", "0", "twice"]),
    "a key twice": ("names: [cat]\ntrain: a\nval: b\ntrain: c\n", ["line 4", "train", "twice"]),
    "a background": (changed(names=["Background", "cat"]), ["names", "'Background'"]),
    "too many": (changed(names=[f"class {i}" for i in range(255)]), ["names", "255", "254"]),
    "none": (changed(names=[]), ["names", "0 objects"]),
    "names as text": (changed(names="cat"), ["names", "'cat'"]),
    "no, unquoted": ("names: [cat, no]\ntrain: a\nval: b\n", ["names", "False", "quotes"]),
    "a number": (changed(names=["cat", 7]), ["names", "7"]),
    "blank": (changed(names=["cat", " "]), ["names", "' '"]),
    "a gap": (changed(names={0: "cat", 2: "dog"}), ["names", "[0, 2]"]),
    "from two on": (changed(names={2: "cat", 3: "dog"}), ["names", "[2, 3]"]),
    "names to indices": (changed(names={"cat": 0, "dog": 1}), ["names"]),
    "short palette": (changed(palette=[[0, 0, 0], [1, 1, 1]]), ["palette", "2", "3"]),
    "colour names": (changed(palette=["black", "red", "blue"]), ["palette", "'black'"]),
    "bright colours": (changed(palette=[[0, 0, 256]] * 3), ["palette", "256"]),
    "palette as text": (changed(palette="voc"), ["palette", "'voc'"]),
    "ignored class": (changed(ignore_index=2), ["ignore_index", "3 to 255", "2"]),
    "ignore_index true": (changed(ignore_index=True), ["ignore_index", "True"]),
    "exif as text": (changed(exif="false"), ["exif", "'false'"]),
    "path as number": (changed(path=5), ["path", "5"]),
    "several lists": (changed(train=["a.txt", "b.txt"]), ["train", "a.txt"]),
    "a name with a slash": (changed(name="a/b"), ["name", "'a/b'"]),
    "a hidden name": (changed(name=".a"), ["name", "'.a'"]),
    "counts of words": (changed(counts={"train.txt": "many"}), ["counts"]),
    "half an install": (changed(install={"top": "voc"}), ["install", "folders"]),
    "folders as number": (
        changed(install={"folders": 5, "top": "a", "script": "b", "module": "c"}),
        ["install"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_and_key(tmp_path, mistake):
    content, words = MISTAKES[mistake]
    path = tmp_path / DATASET_FILE
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        get_dataset_info(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    assert len(text.replace(str(path), "").split()) <= 25, text
    assert all(word in text for word in words), text


def test_a_data_set_that_is_nowhere(tmp_path):
    for name in ("pascal", tmp_path, tmp_path / "gone.yaml"):
        with pytest.raises(UserError, match="pascal_voc") as caught:
            get_dataset_info(name)
        assert str(name) in str(caught.value)
