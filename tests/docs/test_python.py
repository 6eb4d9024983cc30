"""docs/python.md: its snippets run, one after the other, with a thin network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.checkpoint import save_model
from core.config import load_config
from core.snapshot_settings import write_settings
from datasets.voc import PASCAL_VOC
from models import get_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
SETTINGS = {
    **{"NET.BACKBONE": "vgg16", "TEST.SCALES": "[1]", "TEST.FLIP": "False"},
    **{"TEST.PAD_SIZE": "[104, 136]", "TEST.BG_POW": "1"},
}


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def make_snapshot(path: Path) -> None:
    """A snapshot of a thin network, with its settings, at the page's place."""
    path.parent.mkdir(parents=True)
    config = load_config(None, [word for pair in SETTINGS.items() for word in pair])
    torch.manual_seed(0)
    save_model(get_model(config.NET, PASCAL_VOC.num_classes), path)
    write_settings(path.parent, config, PASCAL_VOC.at(Path("data")))


def test_the_snippets_run(thin_vgg16, tmp_path, monkeypatch, capsys):
    [snapshot] = set(re.findall(r'^snapshot = "(.*)"$', PAGE, re.M))
    make_snapshot(tmp_path / snapshot)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "beach.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for snippet in snippets():
        exec(compile(snippet, "python.md", "exec"), names)

    assert names["result"].mask.shape == (90, 120)
    assert names["result"].probabilities.shape == (21, 90, 120)
    assert names["segmenter"].test.WINDOW == "fit"
    torch.testing.assert_close(names["refined"].sum(dim=1), torch.ones(1, 90, 120))
    assert names["sharp"].shape == (90, 120) and names["sharp"].max() == 1
    assert names["counts"].sum() == 90 * 120 and names["iou"].shape == (2,)
    assert names["scores"].shape == (1, 20) and names["masks"].shape == (1, 21, 97, 97)
    assert names["outputs"].keys() >= {"cls", "fg", "mask_logits", "pseudo_labels", "loss_mask"}
    printed = capsys.readouterr().out.splitlines()
    assert any("entries loaded" in line for line in printed)
    assert "NET.LEARNING_RATE" in printed[-1]
