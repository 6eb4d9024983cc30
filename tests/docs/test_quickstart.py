"""docs/quickstart.ipynb: it runs on what the demo leaves, and is kept with its outputs."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from pathlib import Path

import pytest
from in_process import one_thread
from notebook import run_notebook
from PIL import Image
from thin_train import thin_networks
from training_command import train

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def read() -> dict:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def pictures(notebook: dict) -> list[Image.Image]:
    found = [output["data"]["image/png"] for output in outputs(notebook) if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(png))) for png in found]


def printed(notebook: dict) -> str:
    return "".join("".join(output.get("text", [])) for output in outputs(notebook))


def test_it_is_kept_with_its_outputs():
    notebook = read()
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, 1 + len(cells)))
    assert len(pictures(notebook)) == 2
    assert re.search(r"^mIoU: \d+\.\d\d$", printed(notebook), re.M)
    assert NOTEBOOK.stat().st_size < 300_000


def test_it_names_no_machine():
    text = "".join("".join(cell["source"]) for cell in read()["cells"]) + printed(read())
    assert not re.search(r"(^|[\s'\"])(~|/\w+)/\w+", text)


@pytest.mark.slow
def test_it_runs_with_a_network_of_a_few_steps(mini_voc, tmp_path, monkeypatch):
    (tmp_path / "core").symlink_to(ROOT / "core")  # by which the notebook knows the folder
    (tmp_path / "docs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mini_voc").symlink_to(mini_voc)
    run = ["--exp", "demo", "--run", "mini_ae"]
    changes = {"TRAIN.NUM_EPOCHS": "1", "TEST.SCALES": "[1]", "TEST.FLIP": "False"}
    train(mini_voc, tmp_path, *run, NET__MODEL="ae", **changes)
    notebook = read()
    for cell in code_cells(notebook):
        cell["outputs"] = []
    # where Jupyter starts it
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with one_thread(), thin_networks():
        run_notebook(notebook)
    found, text = pictures(notebook), printed(notebook)
    assert [picture.format for picture in found] == ["PNG", "PNG"]
    assert all(picture.width > 400 for picture in found)
    assert re.search(r"IoU of the objects: 0\.\d\d rough, 0\.\d\d refined", text)
    assert "20 of 20 images evaluated" in text
