"""Which network weights are of, told from the names and shapes of their entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from core.config import Config
from core.published import published_state
from models import get_model
from models.backbones import BACKBONES
from models.builder import MODELS

# the least share of entries in common at which weights are called a network's
LEAST_OVERLAP = 0.5

Entries = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class WeightsLabel:
    """What weights are of.

    Attributes:
        backbone: as NET.BACKBONE calls it.
        model: of a snapshot, as NET.MODEL calls it; "" for ImageNet weights, of the backbone alone.
    """

    backbone: str
    model: str = ""

    def __str__(self) -> str:
        if self.model:
            return f"a snapshot of {self.model} with {self.backbone}"
        return f"ImageNet weights of {self.backbone}"


def recognise(state: Mapping[str, Tensor]) -> WeightsLabel | None:
    """The network that weights are of, even if some entries are not as they should be.

    None if it is no network of ours.
    """
    found = _entries(state)
    overlaps = {
        label: len(found & entries) / max(1, len(found | entries))
        for label, entries in _known().items()
    }
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] >= LEAST_OVERLAP else None


@cache
def _known() -> Mapping[WeightsLabel, Entries]:
    """Every network's entries."""
    known = {}
    # on this device tensors have a shape but no memory
    with torch.device("meta"):
        for backbone, record in BACKBONES.items():
            weights = record.build(nn.BatchNorm2d).state_dict()
            known[WeightsLabel(backbone)] = _entries(weights)
            for model in MODELS:
                network = get_model(replace(Config().NET, MODEL=model, BACKBONE=backbone))
                known[WeightsLabel(backbone, model)] = _entries(published_state(network))
    return known


def _entries(state: Mapping[str, Tensor]) -> Entries:
    # old files have no batch counters
    return frozenset(
        (name, tuple(tensor.shape))
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )
