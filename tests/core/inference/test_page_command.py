"""infer_val.py --page as a user runs it, again and after changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inference_command import infer, make_workplace, mark, marked, refusal, results_of, start_pair
from page_case import data_of, target

IMAGES = 3
SKIP = "--skip-existing"
# without processes of their own, which take a second to start
PAGE = ("--page", "--workers", "0")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("pages"), IMAGES)


@pytest.fixture(scope="module")
def made(place, tmp_path_factory) -> Path:
    """The folder of a run with a page."""
    folder = tmp_path_factory.mktemp("made") / "out"
    done = infer(place, folder, *PAGE)
    assert done.stdout.splitlines()[-1] == f"page: {folder / 'index.html'}"
    return folder


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "out")


def test_the_page_knows_all_images_and_their_labels(place, made):
    data = data_of(made / "index.html")
    assert [image["name"] for image in data["images"]] == [
        f"image{n:02d}.jpg" for n in range(IMAGES)
    ]
    assert len(data["classes"]) == 21
    for image in data["images"]:
        # TEST.USE_GT_LABELS takes them from masks
        assert image["given"] and image["scores"] == {}
        assert set(image["missing"]) <= set(image["given"])
        # the folder was not moved, the image is where it was
        assert target(made / "index.html", image["file"]).name == image["name"]
    assert [title for title, *_ in data["links"]] == ["mask", "mask with CRF", "picture"]


def test_predicted_labels_come_with_scores(place, tmp_path):
    predicted = ("--set", "TEST.USE_GT_LABELS", "False", "TEST.FP_CUT_SCORE", "0.0")
    infer(place, tmp_path, *PAGE, *predicted, "TEST.CRF", "False")
    for image in data_of(tmp_path / "index.html")["images"]:
        assert image["given"] is None and image["missing"] == []
        assert len(image["scores"]) == 20
        assert all(0 < score < 1 for score in image["scores"].values())


def test_a_second_run_writes_the_same_page_and_no_image_anew(place, made, out):
    (out / "index.html").unlink()
    mark(out)
    done = infer(place, out, *PAGE, SKIP)
    assert f"{IMAGES} of {IMAGES} images have their results" in done.stdout
    assert len(marked(out)) == IMAGES
    assert (out / "index.html").read_bytes() == (made / "index.html").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["page/image01.jpg", "page/image01.json"])
def test_what_only_the_page_needs_counts_only_for_it(place, made, out, lost):
    (out / lost).unlink()
    mark(out)
    before = (out / "index.html").read_bytes()
    infer(place, out, SKIP, "--workers", "0")
    assert len(marked(out)) == IMAGES and not (out / lost).exists()
    assert (out / "index.html").read_bytes() == before
    infer(place, out, *PAGE, SKIP)
    assert marked(out) == ["image00", "image02"] and (out / lost).exists()
    assert (out / "index.html").read_bytes() == before


@pytest.mark.slow
def test_without_the_option_no_page_is_left_of_other_masks(place, made, out, tmp_path):
    (tmp_path / "own.html").write_text("of the user")
    infer(place, out, "--workers", "0")
    expected = {name for name in results_of(made) if not name.startswith(("page/", "index"))}
    assert set(results_of(out)) == expected
    assert not (out / "page").exists()
    # a page that came without thumbnails is another's
    (out / "index.html").write_text("of the user")
    infer(place, out, "--workers", "0")
    assert (out / "index.html").read_text() == "of the user"


@pytest.mark.slow
def test_numbers_that_are_damaged_are_named(place, out):
    path = out / "page/image01.json"
    path.write_text("{")
    assert str(path) in refusal(infer(place, out, *PAGE, SKIP, status=2))
    path.unlink()
    infer(place, out, *PAGE, SKIP)
    assert json.loads(path.read_text())["size"]


@pytest.mark.slow
def test_two_processes_write_one_page(place, made, tmp_path):
    pair = start_pair(place, tmp_path / "pair", "--page")
    for process in pair:
        with process:
            out, err = process.communicate()
        assert process.returncode == 0, out + err
    mine, theirs = (folder / "index.html" for folder in (tmp_path / "pair", made))
    numbers = [
        [{**each, "file": ""} for each in data_of(path)["images"]] for path in (mine, theirs)
    ]
    assert numbers[0] == numbers[1]
