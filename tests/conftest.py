"""What tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.prepare import prepare


@pytest.fixture(scope="session")
def mini_voc(tmp_path_factory) -> Path:
    """A small mini-VOC, prepared: the data root."""
    root = tmp_path_factory.mktemp("mini voc")
    generate(root, MiniVocSettings(seed=1, train=40, val=20))
    prepare(root)
    return root
