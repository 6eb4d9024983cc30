"""A folder of results never holds those of two configurations without saying so."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from inference_command import (
    infer,
    make_workplace,
    mark,
    marked,
    refusal,
    results_of,
    save_snapshot,
)
from PIL import Image

IMAGES = 3
SKIP = "--skip-existing"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = make_workplace(tmp_path_factory.mktemp("folder"), IMAGES)
    (folder / "first.txt").write_text("image00.jpg image00_mask.png\n")
    return folder


@pytest.fixture(scope="module")
def made(place, tmp_path_factory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("made")
    infer(place, folder)
    return folder


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "TEST.BG_POW", "2"), "TEST.BG_POW was 1.0, is 2.0"),
        (("--set", "TEST.SCALES", "(1.0, 0.5)"), "TEST.SCALES was [1.0], is [1.0, 0.5]"),
        (("--set", "TEST.CRF", "False"), "TEST.CRF was True, is False"),
        (("--set", "NET.BG_SCORE", "0.2"), "NET.BG_SCORE was 0.1, is 0.2"),
    ],
)
def test_another_configuration_is_refused(place, out, arguments, words):
    before = results_of(out), (out / "results.json").read_bytes()
    message = refusal(infer(place, out, SKIP, *arguments, status=2))
    assert words in message
    assert "--mask-output-dir" in message and SKIP in message
    assert (results_of(out), (out / "results.json").read_bytes()) == before


def test_another_snapshot_of_the_same_name_is_refused(place, out):
    snapshot = next(place.glob("snapshots/pascal_voc/main/v01/*.pth"))
    content = snapshot.read_bytes()
    try:
        save_snapshot(place, seed=1)
        message = refusal(infer(place, out, SKIP, status=2))
        assert "the snapshot was sha256 " in message
        # the same bytes are the same snapshot, whenever they were written
        snapshot.write_bytes(content)
        infer(place, out, SKIP)
    finally:
        snapshot.write_bytes(content)


@pytest.mark.slow
def test_other_labels_are_refused(place, tmp_path):
    known = tmp_path / "labels.json"
    names = [f"image{number:02d}" for number in range(IMAGES)]
    known.write_text(json.dumps({name: ["cat"] for name in names}))
    labels = ("--labels", known, "--set", "TEST.USE_GT_LABELS", "False")
    infer(place, tmp_path / "out", *labels)
    infer(place, tmp_path / "out", SKIP, *labels)
    known.write_text(json.dumps({name: ["dog"] for name in names}))
    message = refusal(infer(place, tmp_path / "out", SKIP, *labels, status=2))
    assert "the labels was sha256 " in message
    done = infer(place, tmp_path / "out", "--renew", *labels)
    assert f"{IMAGES} images" in done.stdout
    again = infer(place, tmp_path / "out", "--renew", *labels)
    assert f"{IMAGES} of {IMAGES} images have their results" in again.stdout


def test_what_does_not_change_results_is_not_refused(place, out):
    mark(out)
    others = ("--workers", "0", "--set", "TEST.BATCH_SIZE", "3", "NET.LR", "1")
    others += ("TEST.DATA_ROOT", place)
    done = infer(place, out, SKIP, *others)
    assert "3 of 3 images have their results and are skipped" in done.stdout
    assert len(marked(out)) == 3


@pytest.mark.slow
def test_results_of_unknown_origin_are_refused(place, out):
    (out / "results.json").unlink()
    assert "results.json" in refusal(infer(place, out, SKIP, status=2))
    for damaged in ('{"made_from": 3', '{"made_from": 3}', "[1]", '"text"', "3"):
        (out / "results.json").write_text(damaged)
        assert "results.json" in refusal(infer(place, out, SKIP, status=2))


def test_an_image_is_left_out_only_with_all_its_files(place, made, out):
    (out / "vis/image01.png").unlink()
    mark(out)
    infer(place, out, SKIP)
    assert marked(out) == ["image00", "image02"]
    # what another option wants too is made
    infer(place, out, SKIP, "--save-probabilities")
    expected = results_of(made)
    found = results_of(out)
    assert sorted(found.keys() - expected.keys()) == [f"prob/image0{n}.npz" for n in range(3)]
    assert {name: found[name] for name in expected} == expected


def test_an_image_that_has_changed_is_made_anew(place, out):
    mark(out)
    image = place / "image01.jpg"
    before = image.stat()
    try:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        infer(place, out, SKIP)
    finally:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert marked(out) == ["image00", "image02"]


def test_without_the_option_all_is_made_anew(place, made, out):
    mark(out)
    (out / ".image00.png.ab_12xyz.tmp").write_bytes(b"of a process that was killed")
    (out / "environment_from_00001.yaml").write_text("of a part that is void")
    infer(place, out)
    assert results_of(out) == results_of(made)
    assert not (out / "environment_from_00001.yaml").exists()


@pytest.mark.slow
def test_results_of_other_images_are_named_and_never_taken_for_ours(place, out):
    one = ("--infer-list", "first.txt")
    changed = ("--set", "TEST.BG_POW", "2")
    done = infer(place, out, *one, *changed)
    [warning] = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert "2 other images, as image01" in warning
    mark(out)
    infer(place, out, SKIP, *changed)
    assert marked(out) == ["image00"]
    # those of the same configuration need no warning
    assert "warning" not in infer(place, out, *one, *changed).stdout


def test_masks_with_crf_do_not_outlive_the_masks(place, out):
    infer(place, out, "--set", "TEST.CRF", "False")
    assert not (out / "crf").exists()
    assert len(results_of(out)) == 2 * IMAGES


def test_killed_after_the_manifest_old_results_are_not_taken_for_new(place, out, monkeypatch):
    import core.inference.run

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(core.inference.run, "write_run_info", killed)
    changed = ("--set", "TEST.BG_POW", "2")
    infer(place, out, *changed, status=130)
    monkeypatch.undo()
    assert json.loads((out / "results.json").read_text())["made_from"]["TEST.BG_POW"] == 2
    assert "0 of 3 images have their results" in infer(place, out, SKIP, *changed).stdout


def test_results_never_overwrite_images(place, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "own.png")
    (folder / "list.txt").write_text("own.png\n")
    (tmp_path / "link").symlink_to(folder)
    before = results_of(folder)
    own = ("--infer-list", folder / "list.txt", "--set", "TEST.USE_GT_LABELS", "False")
    own += ("TEST.DATA_ROOT", folder)
    for target in (folder, tmp_path / "link"):
        message = refusal(infer(place, target, *own, status=2))
        assert "own.png would be overwritten by a result" in message
    assert results_of(folder) == before


def test_without_pydensecrf_it_ends_before_it_begins(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.utils", None)
    done = infer(place, tmp_path, status=2)
    message = refusal(done)
    assert "pip install pydensecrf2" in message and "--set TEST.CRF False" in message
    assert done.stdout.startswith("device: ") and done.stdout.count("\n") == 1
    infer(place, tmp_path, "--workers", "0", "--set", "TEST.CRF", "False")
    assert len(results_of(tmp_path)) == 2 * IMAGES
