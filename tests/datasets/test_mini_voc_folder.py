"""mini-VOC as a folder of images with a table of their objects."""

import csv
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from in_process import run_main
from PIL import Image

from datasets.files import read_image, read_mask
from datasets.mini_voc.__main__ import main
from datasets.mini_voc.folder import CLASSES, FolderSettings, generate_folder, plan_folder
from datasets.voc import PASCAL_VOC

SETTINGS = FolderSettings(seed=3, images=60)


def mini_voc(out, *arguments):
    return run_main(main, "--out", out, *arguments)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("with space") / "mini"
    result = mini_voc(out, "--layout", "folder", "--seed", 3, "--images", 60)
    assert result.returncode == 0, result.stderr
    for word in (str(out), "60 images", "labels.csv", "masks", *CLASSES):
        assert word in result.stdout
    return out


@pytest.fixture(scope="module")
def rows(made):
    """File name → objects, as the table has them."""
    with (made / "labels.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.reader(file, strict=True))
    assert len({name for name, *_ in read}) == len(read) == 60
    return {name: objects for name, *objects in read}


def test_classes_are_six_sorted_and_none_of_vocs():
    assert list(CLASSES) == sorted(CLASSES) and len(CLASSES) == 6
    assert any(" " in name for name in CLASSES)
    assert not set(CLASSES) & set(PASCAL_VOC.classes)
    assert len(set(CLASSES.values())) == 6
    assert set(CLASSES.values()) <= set(PASCAL_VOC.classes)


def test_nothing_but_images_table_and_masks_is_there(made, rows):
    shown = {path.name for path in made.iterdir() if not path.name.startswith(".")}
    assert shown == {"images", "labels.csv", "masks"}
    assert {path.name for path in (made / "images").iterdir()} == set(rows)
    masks = {path.name for path in (made / "masks").iterdir()}
    assert masks == {f"{Path(name).stem}.png" for name in rows}
    assert len({mask.casefold() for mask in masks}) == 60


def test_the_table_says_what_the_masks_show(made, rows):
    names = list(CLASSES)
    for name, objects in rows.items():
        mask = read_mask(made / "masks" / f"{Path(name).stem}.png")
        present = np.unique(mask)
        assert [names[value - 1] for value in present if value] == objects
        assert 0 in present
        image = read_image(made / "images" / name)
        assert image.size == mask.shape[::-1]
    stored = Image.open(made / "masks" / f"{Path(next(iter(rows))).stem}.png")
    assert stored.mode == "P" and tuple(stored.getpalette()[:21]) == PASCAL_VOC.palette[:21]


def test_names_are_such_as_people_give(rows):
    spaced = [name for name in rows if " " in name]
    assert len(spaced) == 20  # a third
    assert len([name for name in rows if re.search("[äöüÄÖÜ]", name)]) > 3
    assert all(unicodedata.is_normalized("NFC", name) for name in rows)
    suffixes = [Path(name).suffix for name in rows]
    assert set(suffixes) == {".jpg", ".png"}
    assert 0 < suffixes.count(".png") < 10


def test_images_are_in_the_format_of_their_suffix(made, rows):
    for name in rows:
        with Image.open(made / "images" / name) as image:
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[Path(name).suffix]


def test_objects_stand_alone_in_pairs_and_nowhere_and_all_mixed():
    planned = plan_folder(FolderSettings())
    assert len(planned) >= 300
    numbers = np.bincount([len(image.classes) for image in planned])
    assert len(numbers) == 3
    assert 0.02 < numbers[0] / len(planned) < 0.1
    assert min(numbers[1:]) / len(planned) > 0.3
    shown = [set(image.classes) for image in planned]
    for name in CLASSES:
        assert {name} in shown
        assert {other for one in shown if name in one for other in one} == set(CLASSES)
    counts = [sum(name in one for one in shown) for name in CLASSES]
    assert max(counts) < 1.3 * min(counts)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(made, tmp_path):
    generate_folder(tmp_path / "again", SETTINGS)
    assert contents(tmp_path / "again") == contents(made)
    names = [{image.name for image in plan_folder(FolderSettings(seed))} for seed in (3, 4)]
    assert names[0] != names[1]


@pytest.mark.slow
def test_a_second_run_leaves_it_and_one_with_losses_draws_it_anew(made, tmp_path, capsys):
    out = Path(shutil.copytree(made, tmp_path / "mini"))
    (out / "dataset.yaml").write_text("mine")
    generate_folder(out, SETTINGS)
    assert "nothing to do" in capsys.readouterr().out
    lost = sorted((out / "masks").iterdir())[0]
    lost.unlink()
    (out / "labels.csv").unlink()
    generate_folder(out, SETTINGS)
    assert "lost 2 files" in capsys.readouterr().out
    assert (out / "dataset.yaml").read_text() == "mine"
    (out / "dataset.yaml").unlink()
    assert contents(out) == contents(made)


def test_one_layout_does_not_replace_the_other(made):
    before = contents(made)
    result = mini_voc(made, "--seed", 3)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert contents(made) == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--layout", "folder", "--train", 40), "--train"),
        (("--layout", "folder", "--val", 40), "--val"),
        (("--images", 40), "--images"),
        (("--layout", "voc", "--images", 40), "--images"),
        (("--layout", "folder", "--images", 19), "--images 19"),
        (("--layout", "folder", "--seed", -1), "--seed -1"),
    ],
)
def test_options_that_make_no_sense_end_in_one_line(tmp_path, arguments, named):
    result = mini_voc(tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert named in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
