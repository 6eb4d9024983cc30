"""Data set, list and data root of masks: as given, or as inference left them beside the masks."""

import argparse
import re

import pytest
import yaml
from in_process import run_main
from report_case import write

import eval_seg
from core.config import Config
from core.evaluation import figure
from core.inference import pseudo_label_list, voc_submission
from core.mask_arguments import add_mask_arguments, can_check_list, mask_list
from core.snapshot_settings import write_settings
from datasets.dataset_file import get_dataset_info, read_dataset
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

PETS = "name: pets\nnames: [cat, dog]\ntrain: train.txt\nval: lists/val.txt\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of two objects in `pets`, and in `out` masks of its validation list."""
    monkeypatch.chdir(tmp_path)
    pets = tmp_path / "pets"
    for name in "ab":
        write(pets / "gt" / f"{name}.png", [[0, 2]])
        write(pets / "img" / f"{name}.png", [[0, 0]])
        write(tmp_path / "out" / f"{name}.png", [[0, 2]])
        write(tmp_path / "out" / "crf" / f"{name}.png", [[0, 1]])
    (pets / "lists").mkdir()
    (pets / "dataset.yaml").write_text(PETS)
    (pets / "lists" / "val.txt").write_text("img/a.png gt/a.png\nimg/b.png gt/b.png\n")
    (pets / "train.txt").write_text("img/a.png gt/a.png\n")
    write_settings(tmp_path / "out", Config(), read_dataset(pets / "dataset.yaml"))
    made_of(tmp_path, "pets/lists/val.txt")
    return tmp_path


def made_of(folder, filelist):
    (folder / "out" / "environment.yaml").write_text(yaml.safe_dump({"filelist": filelist}))


def arguments(*given, masks="out"):
    parser = argparse.ArgumentParser()
    add_mask_arguments(parser, "images", "a file")
    return parser.parse_args([*given, "--masks", masks, "--out", "x"])


@pytest.mark.parametrize("masks", ["out", "out/crf"])
def test_what_lies_beside_the_masks_is_enough(folder, masks):
    found = mask_list(arguments(masks=masks))
    assert (found.info.name, found.info.num_classes) == ("pets", 3)
    assert (str(found.path), found.root) == ("pets/lists/val.txt", folder / "pets")


def test_the_data_sets_own_lists_have_names(folder):
    assert mask_list(arguments("--filelist", "train")).path == folder / "pets" / "train.txt"
    assert mask_list(arguments("--filelist", "val")).path == folder / "pets" / "lists" / "val.txt"


def test_what_is_given_wins(folder):
    found = mask_list(arguments("--filelist", "my.csv", "--data", "root", "--dataset", "pets"))
    assert (str(found.path), str(found.root)) == ("my.csv", "root")
    assert found.info == get_dataset_info("pets")


def test_a_known_data_set_is_where_the_masks_images_were(folder):
    write_settings(folder / "out", Config(), PASCAL_VOC.at(folder / "my voc"))
    found = mask_list(arguments("--dataset", "pascal_voc", "--filelist", "val"))
    assert found.path == folder / "my voc" / "val_voc.txt" and found.root == folder / "my voc"


def test_masks_without_settings_are_pascal_vocs(folder):
    (folder / "out" / "dataset.yaml").unlink()
    found = mask_list(arguments("--filelist", "val"))
    assert found.info is PASCAL_VOC
    assert (str(found.path), str(found.root)) == ("data/val_voc.txt", "data")


def test_other_classes_than_the_masks_are_refused(folder):
    with pytest.raises(
        UserError, match=r"pascal_voc has 21 classes, pets has 3; .*--dataset"
    ) as it:
        mask_list(arguments("--dataset", "pascal_voc"))
    assert "out/dataset.yaml" in str(it.value)


@pytest.mark.parametrize("made", ["pets/img", "pets/img/a.png", "gone.txt", None])
def test_masks_of_no_list_want_one(folder, made):
    made_of(folder, made)
    with pytest.raises(UserError, match="--filelist"):
        mask_list(arguments())
    assert mask_list(arguments("--filelist", "val")).root == folder / "pets"


def test_masks_that_are_not_there_are_named(folder):
    with pytest.raises(UserError, match="--masks none: there is no such folder"):
        mask_list(arguments(masks="none"))


def test_a_list_is_checked_early_where_it_is_known(folder):
    known = ["--data", "pets", "--filelist", "pets/train.txt"]
    assert can_check_list(arguments(*known))
    assert not can_check_list(arguments(*known[2:]))
    assert not can_check_list(arguments(*known[:2]))
    assert not can_check_list(arguments(*known[:2], "--filelist", "train"))


def test_the_commands_need_nothing_but_masks(folder):
    done = run_main(eval_seg.main, "--masks", "out", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    # of the objects, then of all: of cat there is none, which counts as 0; with CRF dog is missed
    found = re.findall(r"^mIoU: (.*)$", done.stdout, flags=re.M)
    assert found == ["50.00", "66.67", "0.00", "33.33"]
    done = run_main(pseudo_label_list.main, "--masks", "out/crf", "--out", "out/l.txt", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "out" / "l.txt").read_text() == (
        "pets/img/a.png out/crf/a.png\npets/img/b.png out/crf/b.png\n"
    )
    done = run_main(figure.main, "--masks", "out", "--out", "out/p.png", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_main(voc_submission.main, "--masks", "out", "--out", "out/x.tgz", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 masks of out packed")


@pytest.mark.parametrize("command", [pseudo_label_list, voc_submission])
def test_before_there_are_masks_the_output_is_checked(folder, command):
    (folder / "file").touch()
    given = ["--masks", "new", "--filelist", "train", "--check"]
    assert run_main(command.main, *given, "--out", "new/l", cwd=folder).returncode == 0
    done = run_main(command.main, *given, "--out", "file/l", cwd=folder)
    assert done.returncode == 2 and "file/l" in done.stderr


def test_ground_truth_in_a_folder_needs_the_data_set_alone(folder):
    (folder / "out" / "environment.yaml").unlink()
    done = run_main(
        eval_seg.main, "--masks", "out", "--ground-truth", "pets/gt", "--json", "n", cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load((folder / "n").read_text())["classes"] == ["background", "cat", "dog"]
