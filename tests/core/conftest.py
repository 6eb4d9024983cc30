"""What tests of weights share."""

import pytest
import torch
from small_network import SmallNetwork

from core.checkpoint import save_model


@pytest.fixture
def saved(tmp_path):
    """A small network's snapshot: its path and its content."""
    path = tmp_path / "small.pth"
    save_model(SmallNetwork(), path)
    return path, torch.load(path, weights_only=True)
