"""What inference hands to its writers, made up at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.inference.writing import Outputs
from utils.palette import voc_palette

PALETTE = voc_palette()
CLASSES = 21


class Result(NamedTuple):
    """What `write_result` takes beside the outputs."""

    id: str
    image: np.ndarray
    merged: np.ndarray
    ground_truth: np.ndarray | None


def make_result(name="a", height=10, width=12, seed=0, ground_truth=True):
    random = np.random.default_rng(seed)
    merged = random.dirichlet(np.full(CLASSES, 0.1), (height, width)).transpose(2, 0, 1)
    return Result(
        name,
        random.integers(0, 256, (height, width, 3), dtype=np.uint8),
        np.ascontiguousarray(merged, dtype=np.float32),
        random.integers(0, CLASSES, (height, width), dtype=np.uint8) if ground_truth else None,
    )


def outputs(folder, **settings):
    return Outputs(folder, PALETTE, 255, **settings)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def colours(mask):
    return np.array(PALETTE).reshape(256, 3)[mask]
