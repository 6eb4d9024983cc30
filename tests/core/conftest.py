"""What tests of weights, of inference and of pages share."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from small_network import SmallNetwork

from core.checkpoint import save_model
from core.config import load_config
from datasets.voc import PASCAL_VOC
from models import get_model


@pytest.fixture
def saved(tmp_path):
    """A small network's snapshot: its path and its content."""
    path = tmp_path / "small.pth"
    save_model(SmallNetwork(), path)
    return path, torch.load(path, weights_only=True)


class Trained(NamedTuple):
    """The files that inference needs."""

    snapshot: Path
    config: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The fastest of the networks with random weights, and settings for small images."""
    folder = tmp_path_factory.mktemp("trained")
    files = Trained(folder / "model.pth", folder / "cfg.yaml")
    files.config.write_text(
        "TEST: {SCALES: [1.0], FLIP: false, PAD_SIZE: [48, 48], BG_POW: 2}\n"
        "NET: {MODEL: bsl, BACKBONE: vgg16, PRE_WEIGHTS_PATH: models/weights/nowhere.pth}\n"
    )
    torch.manual_seed(0)
    save_model(get_model(load_config(files.config).NET, PASCAL_VOC.num_classes), files.snapshot)
    return files


@pytest.fixture(scope="module")
def browser():
    """Chromium; a test that wants it is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("there is no Chromium here; Debian's package chromium is one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # its sandbox does not start for root or in many containers; the page is our own
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
