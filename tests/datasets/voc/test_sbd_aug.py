"""SegmentationClassAug in SBD's place: a folder of PNG masks, whose images are VOC's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from get_data_case import SBD, VOC, assert_done, assert_refused, call_get_data
from in_process import run_main
from PIL import Image

from datasets import prepare
from datasets.voc.layout import parse_ids

AUG = "SegmentationClassAug"
ID_LISTS = "ImageSets/Segmentation"


@pytest.fixture(scope="module")
def made(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC2012 with all images, as the real one has, and the folder of masks in it."""
    voc = tmp_path_factory.mktemp("made") / "VOC2012"
    shutil.copytree(ready / VOC, voc)
    shutil.copytree(ready / SBD / "img", voc / "JPEGImages", dirs_exist_ok=True)
    shutil.copytree(voc / "SegmentationClass", voc / AUG)
    for mask in (ready / SBD / "cls_png").glob("*.png"):
        shutil.copy(mask, voc / AUG)
    return voc


@pytest.fixture
def voc(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy/VOC2012"))


def take(root: Path, voc: Path, aug: Path | None = None, **variables: object):
    given = {"SBD_AUG": aug} if aug else {}
    return call_get_data(root, "--no-official", VOC=voc, **given, **variables)


def check(root: Path):
    return run_main(prepare.main, "--check", "--root", str(root))


@pytest.mark.parametrize("named", [AUG, "."])
def test_a_copy_is_linked_and_listed_by_the_rule_of_ids(ready, voc, tmp_path, named):
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / named))
    assert (root / "sbd_aug").is_symlink() and (root / "sbd_aug").resolve() == voc / AUG
    assert not (root / "sbd").exists()
    lines = [line.split() for line in (root / "train_augvoc.txt").read_text().splitlines()]
    ids = [Path(image).stem for image, _ in lines]
    with_sbd = (ready / "train_augvoc.txt").read_text().splitlines()
    assert ids == [Path(line.split()[0]).stem for line in with_sbd]
    assert lines == [[f"{VOC}/JPEGImages/{i}.jpg", f"sbd_aug/{i}.png"] for i in ids]
    for name in ("train_voc.txt", "val_voc.txt"):
        assert (root / name).read_text() == (ready / name).read_text()
    result = check(root)
    assert result.returncode == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if line.startswith(AUG)]
    masks = str(len(list((voc / AUG).glob("*.png"))))
    assert row.split() == [AUG, masks, "-", "-", masks, "0"]


def test_what_it_lacks_of_vocs_train_is_vocs(voc, tmp_path):
    image_id = min(parse_ids(voc / ID_LISTS / "train.txt"))
    (voc / AUG / f"{image_id}.png").unlink()
    (voc / AUG / "._2000_000001.png").write_bytes(b"macOS")
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / AUG))
    assert f"{VOC}/SegmentationClass/{image_id}.png" in (root / "train_augvoc.txt").read_text()


def test_it_is_found_again_without_being_named(voc, tmp_path):
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / AUG))
    before = (root / "train_augvoc.txt").read_text()
    assert_done(call_get_data(root, "--no-official"))
    assert (root / "train_augvoc.txt").read_text() == before


def test_damage_is_told_in_a_line_each(voc, tmp_path):
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / AUG))
    listed = (root / "train_augvoc.txt").read_text().splitlines()
    strange, small, coloured, broken, bare = (Path(line.split()[1]).name for line in listed[:5])
    of_val = f"{min(parse_ids(voc / ID_LISTS / 'val.txt'))}.png"
    Image.fromarray(np.full((5, 4), 21, np.uint8)).save(voc / AUG / strange)
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(voc / AUG / small)
    Image.new("RGB", (4, 5)).save(voc / AUG / coloured)
    (voc / AUG / broken).write_bytes((voc / AUG / broken).read_bytes()[:60])
    (voc / "JPEGImages" / bare).with_suffix(".jpg").unlink()
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(voc / AUG / of_val)
    result = check(root)
    assert_refused(result, "6 errors", root)
    errors = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    told = {}
    for line in errors:
        path, problem = line.removeprefix("error: ").split(": ", 1)
        told[path] = problem
    aug = root / "sbd_aug"
    assert "21" in told.pop(str(aug / strange))
    assert "4×5" in told.pop(str(aug / small)) and "4×5" in told.pop(str(aug / of_val))
    assert "RGB" in told.pop(str(aug / coloured))
    assert str(voc / AUG) in told.pop(str(aug / broken))
    assert list(told) == [str((root / VOC / "JPEGImages" / bare).with_suffix(".jpg"))]


def test_an_image_that_voc_lacks_ends_it(voc, tmp_path):
    image_id = max({path.stem for path in (voc / AUG).iterdir()} - ids_of(voc))
    (voc / "JPEGImages" / f"{image_id}.jpg").unlink()
    result = take(tmp_path / "data", voc, voc / AUG)
    assert_refused(result, "train_augvoc.txt", f"JPEGImages/{image_id}.jpg")


def ids_of(voc: Path) -> set[str]:
    return parse_ids(voc / ID_LISTS / "train.txt") | parse_ids(voc / ID_LISTS / "val.txt")


def test_folders_that_are_none_are_refused(voc, tmp_path):
    root = tmp_path / "data"
    (tmp_path / "empty").mkdir()
    assert_refused(take(root, voc, tmp_path / "empty"), "SBD_AUG", tmp_path / "empty")
    assert_refused(take(root, voc, tmp_path / "none"), "SBD_AUG", tmp_path / "none")
    (voc / AUG).rename(voc / "other")
    (voc / "SegmentationObject").mkdir(exist_ok=True)
    assert_refused(take(root, voc, voc), "SBD_AUG", "2 folders")


def test_it_and_sbd_are_never_mixed(voc, copy, tmp_path):
    root = tmp_path / "data"
    assert_refused(take(root, voc, voc / AUG, SBD=copy), "SBD_AUG")
    assert_done(take(root, voc, None, SBD=copy))
    assert_refused(take(root, voc, voc / AUG), root / "sbd", "SBD_AUG")
    (root / "sbd_aug").symlink_to(voc / AUG)
    assert_refused(check(root), "sbd_aug")
    (root / "sbd/benchmark_RELEASE").rename(tmp_path / "away")
    (root / "sbd").rmdir()
    assert_refused(take(root, voc, None, SBD=copy), root / "sbd_aug", "SBD")


def test_an_emptied_folder_or_a_link_that_leads_nowhere_is_no_data(voc, tmp_path):
    """The list that is there stays as it is."""
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / AUG))
    before = (root / "train_augvoc.txt").read_text()
    (voc / AUG).rename(tmp_path / "away")
    for problem in ("leads nowhere", "no ID.png"):
        assert_refused(run_main(prepare.main, "--root", str(root)), root / "sbd_aug", problem)
        assert_refused(check(root), root / "sbd_aug" if problem == "leads nowhere" else "error")
        assert (root / "train_augvoc.txt").read_text() == before
        (voc / AUG).mkdir(exist_ok=True)


@pytest.mark.parametrize("top", ["sbd", "sbd_aug"])
def test_an_empty_folder_makes_way(voc, tmp_path, top):
    root = tmp_path / "data"
    (root / top).mkdir(parents=True)
    assert_done(take(root, voc, voc / AUG))


def test_a_stray_mask_is_named_and_may_be_removed(voc, tmp_path):
    root = tmp_path / "data"
    assert_done(take(root, voc, voc / AUG))
    known = next((voc / AUG).glob("*.png"))
    for name in ("2020_000001.png", f"{known.stem} (1).png"):
        shutil.copy(known, voc / AUG / name)
        assert_refused(run_main(prepare.main, "--root", str(root)), name)
        (voc / AUG / name).unlink()
    assert run_main(prepare.main, "--root", str(root)).returncode == 0
