"""A case: two ways to compute the same thing, and how their results compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.meters import Meter, tensor_peak


def largest_difference(found: Any, expected: Any) -> float:
    """The largest |found − expected| over all numbers in two results of one shape.

    Args:
        found, expected: tensors, arrays or numbers, or mappings or sequences of such.

    Raises:
        ValueError: the results have different entries or shapes.
    """
    if isinstance(expected, Mapping):
        if found.keys() != expected.keys():
            raise ValueError(f"results of {list(found)} and of {list(expected)}")
        return max((largest_difference(found[key], expected[key]) for key in expected), default=0.0)
    if isinstance(expected, (list, tuple)):
        pairs = zip(found, expected, strict=True)
        return max((largest_difference(*pair) for pair in pairs), default=0.0)
    found, expected = (_as_array(value) for value in (found, expected))
    if found.shape != expected.shape:
        raise ValueError(f"results of shapes {found.shape} and {expected.shape}")
    return float(np.abs(found - expected).max(initial=0.0))


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value, dtype=np.float64)


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: what is computed, as the row's title.
        baseline: the straightforward formulation, as the published system computes it.
        ours: the same by this repository's code.
        tolerance: the largest difference that rounding may make.
        target: how many times faster ours is to be, or None.
        difference: says how far two results, ours and the baseline's, are apart.
        check: the two sides for the comparison of results, where those that are timed give none
            that can be compared: one works on a sample, or draws other random numbers.
        baseline_scale: how much more work ours does, where the baseline is timed on a sample.
        meter: runs a call and says how much memory it took on top.
        precision: what a network's convolutions are computed in on our side, for the share of the
            CPU's peak in that precision; None where there is no network, and on other devices.
        repetitions: timed calls of each side at least.
    """

    name: str
    baseline: Callable[[], Any]
    ours: Callable[[], Any]
    tolerance: float
    target: float | None = None
    difference: Callable[[Any, Any], float] = largest_difference
    check: tuple[Callable[[], Any], Callable[[], Any]] | None = None
    baseline_scale: float = 1.0
    meter: Meter = tensor_peak
    precision: torch.dtype | None = None
    repetitions: int = 3


Builders = Mapping[str, Callable[[torch.device], Case]]
"""What `--only` calls a case → what makes its inputs on a device, and the case."""
