"""Which network weights are of, told from the names and shapes of their entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from core.config import Config
from core.published import published_state
from models import get_model
from models.backbones import BACKBONES
from models.builder import MODELS

# the least share of entries in common at which weights are called a network's
LEAST_OVERLAP = 0.5

Entries = set[tuple[str, tuple[int, ...]]]


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network that weights are of, in words, even if some entries are not as they should be.

    As "a snapshot of ae with vgg16", "ImageNet weights of vgg16" (the backbone alone), or "a
    network not known here".
    """
    found = _entries(state)
    overlaps = {
        name: len(found & entries) / max(1, len(found | entries)) for name, entries in _known()
    }
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] >= LEAST_OVERLAP else "a network not known here"


def _known() -> Iterator[tuple[str, Entries]]:
    """Every network's name in words, and its entries."""
    # on this device tensors have a shape but no memory
    with torch.device("meta"):
        for backbone, record in BACKBONES.items():
            weights = record.build(nn.BatchNorm2d).state_dict()
            yield f"ImageNet weights of {backbone}", _entries(weights)
            for model in MODELS:
                network = get_model(replace(Config().NET, MODEL=model, BACKBONE=backbone))
                yield f"a snapshot of {model} with {backbone}", _entries(published_state(network))


def _entries(state: Mapping[str, Tensor]) -> Entries:
    # old files have no batch counters
    return {
        (name, tuple(tensor.shape))
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
