"""What is made of finished masks: an archive for VOC's server, a list for a second stage."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval_seg
from core.inference import pseudo_label_list, voc_submission
from datasets.files import write_mask
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
NAMES = ["2008_000006", "2008_000011", "b.with.dots"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A data root `data` with images and two lists, and masks of them in results/test."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "data/images").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        height, width = 20 + number, 30
        Image.new("RGB", (width, height)).save(tmp_path / f"data/images/{name}.jpg")
        mask = random.integers(0, PASCAL_VOC.num_classes, (height, width))
        write_mask(tmp_path / f"results/test/{name}.png", mask, PASCAL_VOC.palette)
        write_mask(tmp_path / f"data/images/{name}_true.png", mask, PASCAL_VOC.palette)
    images = [f"images/{name}.jpg" for name in reversed(NAMES)]
    (tmp_path / "data/test.txt").write_text("".join(f"{image}\n" for image in images))
    pairs = [f"{image} {Path(image).with_suffix('')}_true.png\n" for image in images]
    (tmp_path / "data/train.txt").write_text("".join(pairs))
    return tmp_path


def call(
    module, monkeypatch, out: str, filelist: str = "data/test.txt", masks: str = "results/test"
) -> None:
    words = ["--data", "data", "--filelist", filelist, "--masks", masks, "--out", *out.split()]
    monkeypatch.setattr(sys, "argv", ["command", *words])
    module.main()


def test_the_archive_is_what_the_server_takes(place, monkeypatch, capsys):
    write_mask(place / "results/test/another.png", np.zeros((4, 4)), PASCAL_VOC.palette)
    call(voc_submission, monkeypatch, "a.tgz")
    assert capsys.readouterr().out == f"3 masks of {Path('results/test')} packed: a.tgz\n"
    with tarfile.open(place / "a.tgz", "r:gz") as archive:
        files = [member for member in archive if member.isfile()]
        assert [file.name for file in files] == [f"{FOLDER}/{name}.png" for name in NAMES]
        for file, name in zip(files, NAMES, strict=True):
            content = archive.extractfile(file).read()
            assert content == (place / f"results/test/{name}.png").read_bytes()
            assert Image.open(io.BytesIO(content)).mode == "P"
        # whoever unpacks it may read it
        assert {member.mode for member in archive} == {0o644, 0o755}


def test_the_same_masks_make_the_same_archive(place, monkeypatch):
    call(voc_submission, monkeypatch, "a.tgz")
    for name in NAMES:
        path = place / f"results/test/{name}.png"
        path.write_bytes(path.read_bytes())
    call(voc_submission, monkeypatch, "other.tgz")
    assert (place / "a.tgz").read_bytes() == (place / "other.tgz").read_bytes()


def spoil(place: Path, how: str) -> None:
    mask = place / f"results/test/{NAMES[1]}.png"
    right = np.array(Image.open(mask))
    if how == "missing":
        mask.unlink()
    elif how == "grey":
        Image.fromarray(right).save(mask)
    elif how == "other colours":
        write_mask(mask, right, tuple(reversed(PASCAL_VOC.palette)))
    elif how == "left out":
        right[3, 4] = PASCAL_VOC.ignore_index
        write_mask(mask, right, PASCAL_VOC.palette)
    elif how == "size":
        write_mask(mask, right.T, PASCAL_VOC.palette)
    elif how == "cut short":
        mask.write_bytes(mask.read_bytes()[:-20])
    else:
        (place / f"data/images/{NAMES[1]}.jpg").unlink()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "1 of 3 masks are not in results/test"),
        ("grey", "palette PNG"),
        ("other colours", "other colours than the palette of pascal_voc"),
        ("left out", "the value 255, which is no class"),
        ("size", "is 30×21 (height×width), its image"),
        ("cut short", "cannot be read"),
        ("no image", "does not exist"),
    ],
)
def test_what_the_server_does_not_take_is_not_packed(place, monkeypatch, how, words):
    (place / "a.tgz").write_text("an earlier one")
    spoil(place, how)
    with pytest.raises(UserError) as error:
        call(voc_submission, monkeypatch, "a.tgz")
    assert words in str(error.value) and NAMES[1] in str(error.value)
    assert (place / "a.tgz").read_text() == "an earlier one"


def test_a_list_of_masks_is_read_by_evaluation(place, monkeypatch, capsys):
    call(pseudo_label_list, monkeypatch, "results/test/list.txt", "data/train.txt")
    printed = capsys.readouterr().out
    assert printed.startswith("3 lines `IMAGE MASK`: results/test/list.txt")
    root = printed.split(" start at ")[1].strip()
    assert root == str(place)
    entries = read_list(place / "results/test/list.txt", root)
    # in the order of the list it was made from
    assert [entry.id for entry in entries] == NAMES[::-1]
    assert all(entry.image.is_file() for entry in entries)
    assert [entry.mask for entry in entries] == [
        place / f"results/test/{name}.png" for name in NAMES[::-1]
    ]
    words = ["--data", root, "--filelist", "results/test/list.txt", "--masks", "results/test"]
    monkeypatch.setattr(sys, "argv", ["eval_seg.py", *words])
    eval_seg.main()
    assert "mIoU: 100.00" in capsys.readouterr().out


def test_linked_data_is_listed_by_the_link(place, monkeypatch, capsys, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (place / "data/images").rename(elsewhere / "images")
    (place / "data/images").symlink_to(elsewhere / "images")
    call(pseudo_label_list, monkeypatch, "list.txt", "data/train.txt")
    assert (place / "list.txt").read_text().startswith("data/images/b.with.dots.jpg results/test/")


def test_paths_with_spaces_make_a_table(place, monkeypatch, capsys):
    # one of the images, none of the masks
    names = ["my, images/a b.jpg", *(f"images/{name}.jpg" for name in NAMES[1:])]
    (place / "data/my, images").mkdir()
    (place / f"data/images/{NAMES[0]}.jpg").rename(place / "data" / names[0])
    (place / f"results/test/{NAMES[0]}.png").rename(place / "results/test/a b.png")
    (place / "data/some.csv").write_text("\n".join(["image", *(f'"{name}"' for name in names)]))
    call(pseudo_label_list, monkeypatch, "list.txt --check", "data/some.csv")
    call(pseudo_label_list, monkeypatch, "list.txt", "data/some.csv")
    printed = capsys.readouterr().out
    assert printed == f"3 rows of a table `image,mask`: list.txt, whose paths start at {place}\n"
    assert (place / "list.txt").read_text().startswith("image,mask\n")
    entries = read_list(place / "list.txt", place)
    assert [entry.image for entry in entries] == [place / "data" / name for name in names]
    assert [entry.mask for entry in entries] == [
        place / f"results/test/{name}.png" for name in ("a b", *NAMES[1:])
    ]


def test_a_folder_of_masks_with_spaces_makes_a_table(place, monkeypatch):
    (place / "results").rename(place / "my results")
    call(pseudo_label_list, monkeypatch, "list.txt", "data/train.txt", "my results/test")
    entries = read_list(place / "list.txt", place)
    assert [entry.mask for entry in entries] == [
        place / f"my results/test/{name}.png" for name in NAMES[::-1]
    ]


def test_masks_that_cannot_be_listed_are_named(place, monkeypatch):
    spoil(place, "missing")
    with pytest.raises(UserError, match=rf"1 of 3 masks are missing, as .*{NAMES[1]}\.png"):
        call(pseudo_label_list, monkeypatch, "list.txt", "data/train.txt")
    write_mask(place / f"results/test/{NAMES[1]}.png", np.zeros((21, 30)), PASCAL_VOC.palette)
    for folder in ("my\nresults", " results"):
        (place / folder).symlink_to("results")
        for out in ("list.txt", "list.txt --check"):
            with pytest.raises(UserError, match="no list keeps"):
                call(pseudo_label_list, monkeypatch, out, "data/train.txt", f"{folder}/test")
    assert not (place / "list.txt").exists()


def test_what_can_be_known_before_there_are_masks_is_said_before(place, monkeypatch, capsys):
    """The scripts ask, before they segment images for hours."""
    before = sorted(place.rglob("*"))
    for module, name in ((voc_submission, "test"), (pseudo_label_list, "train")):
        call(module, monkeypatch, "new/out --check", f"data/{name}.txt", "new")
        for out in ("results", "data/test.txt/out"):  # a folder; below a file
            with pytest.raises(UserError, match="--out") as caught:
                call(module, monkeypatch, f"{out} --check", f"data/{name}.txt", "new")
            assert f"{out} " in str(caught.value)
    assert sorted(place.rglob("*")) == before and capsys.readouterr().out == ""
    (place / f"data/images/{NAMES[0]}.jpg").unlink()
    with pytest.raises(UserError, match=NAMES[0]):
        call(voc_submission, monkeypatch, "a.tgz --check")
