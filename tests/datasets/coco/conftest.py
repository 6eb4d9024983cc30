"""mini-COCO, as drawn and as prepared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets.coco.prepare import prepare_coco
from datasets.mini_voc.coco import MiniCocoSettings, generate_coco


@pytest.fixture(scope="session")
def drawn_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-COCO that is not prepared; tests copy it."""
    root = tmp_path_factory.mktemp("drawn coco") / "mini"
    generate_coco(root, MiniCocoSettings(seed=3, train=24, val=40))
    return root


@pytest.fixture(scope="session")
def prepared_coco(drawn_coco: Path) -> Path:
    root = Path(shutil.copytree(drawn_coco, drawn_coco.parent / "prepared"))
    prepare_coco(root)
    return root


@pytest.fixture
def coco_copy(prepared_coco: Path, tmp_path: Path) -> Path:
    """A prepared mini-COCO that a test may damage."""
    return Path(shutil.copytree(prepared_coco, tmp_path / "data"))
