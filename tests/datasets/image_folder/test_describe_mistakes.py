"""Folders and labels that no data set can be made of: one line each, and nothing is written."""

import os

import pytest
from image_folder_case import numbered, write_images, write_rows
from in_process import run_main
from PIL import Image

from datasets.describe import main
from datasets.image_folder.describe import describe
from utils.errors import MissingError, UserError


@pytest.fixture
def folder(tmp_path):
    objects = numbered(8)
    write_rows(tmp_path / "labels.csv", objects)
    return write_images(tmp_path / "photos", objects)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def contents(folder):
    """The bytes of all files below a folder; None where there is none."""
    if not folder.is_dir():
        return None
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(words, *arguments, kind=UserError, **options):
    """Describing fails in one short line, and writes nothing."""
    out = arguments[1]
    before = contents(out)
    with pytest.raises(kind, match=words) as error:
        describe(*arguments, **options)
    text = str(error.value)
    assert "\n" not in text and len(text.split()) <= 32, text
    assert contents(out) == before
    return error.value


def test_folders_that_are_none(tmp_path, folder, out):
    refused("gone does not exist", tmp_path / "gone", out)
    refused("is no folder", tmp_path / "labels.csv", out)
    (tmp_path / "empty").mkdir()
    refused(r"empty has no images \(0 other", tmp_path / "empty", out)
    write_images(tmp_path / "one", ["1.png", ".2.png", "notes.txt"])
    refused("one image alone, 1.png", tmp_path / "one", out)


def test_images_that_are_all_equal(tmp_path, folder, out):
    for number in range(1, 8):
        write_images(folder, [f"{number}.png"])
    refused("all images .* are equal", folder, out)


def test_unreadable_images_are_counted(folder, out):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:50])
    (folder / "5.png").write_text("no image")
    (folder / "6.png").unlink()
    (folder / "6.png").symlink_to("gone")
    error = refused("3 of the 8 images .* first 3.png", folder, out, kind=MissingError)
    assert error.names == [str(folder / f"{number}.png") for number in (3, 5, 6)]


def test_images_without_colours_are_unreadable(folder, out):
    """As training finds them."""
    Image.new("F", (9, 7)).save(folder / "3.png", format="TIFF")
    refused("first 3.png .*black and white", folder, out, kind=MissingError)


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_images_in_processes(folder, out, workers, monkeypatch):
    monkeypatch.setattr("utils.processes.FEW_ITEMS", 2)
    (folder / "3.png").write_text("no image")
    error = refused("1 of the 8", folder, out, workers=workers, kind=MissingError)
    assert error.names == [str(folder / "3.png")]


def test_images_without_labels_are_counted(tmp_path, folder, out):
    write_rows(tmp_path / "labels.csv", numbered(4))
    error = refused("lacks 4 of the 8 images, the first 4.png", folder, out, kind=MissingError)
    assert error.names == [str(folder / f"{number}.png") for number in range(4, 8)]


def test_labels_that_are_none(tmp_path, folder, out):
    labels = tmp_path / "labels.csv"
    write_rows(labels, numbered(8, []))
    refused("no image has an object", folder, out)
    refused("cannot read the labels", folder, out, tmp_path / "gone.csv")
    write_rows(labels, numbered(8, ["background"]))
    refused("'background' is no object", folder, out)
    labels.write_text("image,cat\n" + "".join(f"{number}.png,?\n" for number in range(8)))
    refused("unknown", folder, out)
    write_rows(labels, {f"{n}.png": [f"{n}-{k}x" for k in range(32)] for n in range(8)})
    refused("256 objects; a mask holds 254", folder, out)
    labels.unlink()
    refused("there are no labels for .* --labels", folder, out)
    write_images(folder, ["cat/a.png", "b.png"])  # no folder a class: some are in none
    refused("there are no labels", folder, out)


def test_labels_that_may_be_either(tmp_path, folder, out):
    write_rows(folder / "labels.txt", numbered(8))
    refused("labels.txt and .*labels.csv may both", folder, out)
    describe(folder, out, folder / "labels.txt")


def test_one_folder_is_no_class_unless_it_is_said(tmp_path, out):
    folder = write_images(tmp_path / "photos", ["images/1.png", "images/2.png"])
    refused("there are no labels", folder, out)
    describe(folder, out, folder)


def test_output_that_may_not_be_written(tmp_path, folder, out):
    refused("never touched", folder, folder)
    refused("never touched", folder, folder / "out")
    (tmp_path / "link").symlink_to(folder)
    refused("never touched", folder, tmp_path / "link" / "out")
    refused("labels.csv would be overwritten", folder, tmp_path)
    refused("--out", folder, tmp_path / "labels.csv")
    describe(folder, out)
    refused("labels.csv would be overwritten", folder, out, out / "labels.csv")
    other = write_images(tmp_path / "other", numbered(8))
    refused("is about .*photos", other, out)
    (out / "dataset.yaml").write_text("names: 3")
    refused("--out: .*choose another", folder, out)


def test_files_of_another_origin_stay(folder, out):
    out.mkdir()
    (out / "train.csv").write_text("image,price\n0.png,3\n")
    refused(r"train.csv is there already", folder, out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_cannot_be_read(folder, out):
    (folder / "closed").mkdir(mode=0)
    refused("closed.*make it", folder, out)


def test_names_that_are_no_text(folder, out):
    try:
        (folder / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    refused("UTF-8; rename it", folder, out)


def test_the_command(folder, out, tmp_path):
    """Exit status 2, one line after the progress, and a file of all names on request."""
    write_rows(tmp_path / "labels.csv", numbered(5))
    done = run_main(main, folder, "--out", out)
    assert done.returncode == 2 and not out.exists()
    assert len(done.stderr.splitlines()) == 1 and "--missing-to FILE" in done.stderr
    missing = tmp_path / "missing.txt"
    assert run_main(main, folder, "--out", out, "--missing-to", missing).returncode == 2
    assert missing.read_text().splitlines() == [str(folder / f"{n}.png") for n in (5, 6, 7)]
    done = run_main(main, folder, "--out", out, "--missing-to", folder / "missing.txt")
    assert done.returncode == 2 and not (folder / "missing.txt").exists()


@pytest.mark.parametrize("option", ["--val-share=0", "--val-share=1", "--val-share=nan"])
def test_shares_that_are_none(folder, out, option):
    done = run_main(main, folder, "--out", out, option)
    assert done.returncode == 2 and "--val-share" in done.stderr and not out.exists()
