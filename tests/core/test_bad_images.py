"""Damaged files: each opens as an image of its size, or ends in one line that names the file."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from damaged_files import DAMAGES, FORMATS, whole_files, write_damaged
from PIL import Image

import infer_val
from core.inference.segmenter import Segmenter
from datasets.files import read_image, read_mask
from utils.errors import UserError, run_command

ROOT = Path(__file__).parents[2]
COUNT = 200
SIZE = (29, 37)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    return write_damaged(folder, COUNT, seed=1)


@pytest.fixture(scope="module")
def outcomes(damaged):
    """File → what came of it as an image and as a mask: height and width, or the error's text."""
    done = subprocess.run(
        [sys.executable, "-m", "damaged_files", str(damaged[0].parent)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_whole_files_are_read(tmp_path):
    for name, data in whole_files().items():
        (tmp_path / name).write_bytes(data)
        assert np.asarray(read_image(tmp_path / name)).shape == (*SIZE, 3)
        if name.startswith("p."):
            assert read_mask(tmp_path / name).shape == SIZE
    assert len(FORMATS) == 6


def test_each_ends_in_an_image_of_its_size_or_in_its_name(damaged, outcomes):
    assert len(outcomes) == COUNT
    for path in damaged:
        for found in outcomes[path.name]:
            if isinstance(found, str):
                assert str(path) in found and "\n" not in found
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    width, height = Image.open(path).size
                assert found == [height, width]


@pytest.mark.parametrize("damage", [damage.__name__ for damage in DAMAGES])
def test_no_damage_is_without_effect(damaged, outcomes, damage):
    found = [outcomes[path.name][0] for path in damaged if path.name[4:].startswith(f"{damage}_")]
    assert len(found) == COUNT // len(DAMAGES)
    refused = [text for text in found if isinstance(text, str)]
    if damage in ("text", "noise", "without_bytes"):
        assert len(refused) == len(found)
    elif damage == "of_another_type":
        assert not refused
    else:
        assert refused


def test_a_damaged_png_mask_is_never_read_as_another(damaged, outcomes):
    data = whole_files()["p.png"]
    masks = [path for path in damaged if path.name.endswith("_p.png")]
    assert len(masks) > 10
    for path in masks:
        found = outcomes[path.name][1]
        if not isinstance(found, str) and data[:24] == path.read_bytes()[:24]:
            (path.parent.parent / "whole.png").write_bytes(data)
            np.testing.assert_array_equal(
                read_mask(path), read_mask(path.parent.parent / "whole.png")
            )


@pytest.fixture
def infer(trained, tmp_path, monkeypatch):
    """The command in this process, the network left out: arguments → the text of its error."""

    def run(*further):
        words = ["--cfg", trained.config, "--snapshot", trained.snapshot, "--device", "cpu"]
        words += ["--mask-output-dir", tmp_path / "masks", "--workers", "1", *further]
        monkeypatch.setattr(sys, "argv", ["infer_val.py", *map(str, words)])
        monkeypatch.setattr(Segmenter, "from_snapshot", lambda *_: None)
        with pytest.raises(UserError) as error:
            infer_val.main()
        assert not [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
        return str(error.value)

    return run


@pytest.mark.parametrize("damage", ["truncated", "huge", "text", "noise", "without_bytes"])
def test_the_command_names_the_file(damaged, outcomes, infer, damage):
    path = next(
        path
        for path in damaged
        if f"_{damage}_" in path.name and isinstance(outcomes[path.name][0], str)
    )
    assert str(path) in infer("--infer-list", path)


@pytest.mark.parametrize("kind", ["folder", "unreadable", "loop"])
def test_the_command_names_what_is_no_file(infer, tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to("/proc/self/mem")
    else:
        path.symlink_to(path)
    (tmp_path / "list.txt").write_text("a.png\n")
    message = infer("--infer-list", tmp_path / "list.txt", "--set", "TEST.DATA_ROOT", tmp_path)
    assert str(path) in message


MASKS = {
    "another size": r"mask .*m\.png is 9×4 \(height×width\), its image .*a\.png 29×37",
    "colours": r"m\.png holds colours",
    "text": r"mask .*m\.png cannot be read",
    "cut": r"mask .*m\.png cannot be read",
}


@pytest.mark.parametrize("kind", MASKS)
def test_the_command_names_the_mask(infer, tmp_path, kind):
    files = whole_files()
    (tmp_path / "a.png").write_bytes(files["rgb.png"])
    mask = tmp_path / "m.png"
    if kind == "another size":
        Image.new("P", (4, 9)).save(mask)
    else:
        content = {"colours": files["rgb.png"], "text": b"text", "cut": files["p.png"][:-40]}
        mask.write_bytes(content[kind])
    (tmp_path / "list.txt").write_text("a.png m.png\n")
    message = infer("--infer-list", tmp_path / "list.txt", "--set", "TEST.DATA_ROOT", tmp_path)
    assert re.search(MASKS[kind], message)


@pytest.mark.parametrize("damage", ["truncated", "huge"])
def test_users_see_one_line(damaged, outcomes, trained, tmp_path, monkeypatch, capsys, damage):
    path = next(
        path
        for path in damaged
        if f"_{damage}_" in path.name and isinstance(outcomes[path.name][0], str)
    )
    words = ["--cfg", trained.config, "--snapshot", trained.snapshot, "--device", "cpu"]
    words += ["--mask-output-dir", tmp_path / "masks", "--infer-list", path]
    monkeypatch.setattr(sys, "argv", ["infer_val.py", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        run_command(infer_val.main)
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(path) in line
