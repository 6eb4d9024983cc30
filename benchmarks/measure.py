"""The measurement of a case: equal results first, then memory, then time, both sides in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.case import Case
from core.precision import tf32

FEWEST, MOST = 3, 50
"""Repetitions of a call, unless a case says otherwise; and the most of a side."""
MATRIX = 2048
"""Rows and columns of the matrices that arithmetic is measured with."""


class DifferentResultsError(Exception):
    """The two sides of a case do not compute the same."""


@dataclass(frozen=True)
class Row:
    """What was measured; the fields are those of a row of `--json`.

    Attributes:
        case: the case's name.
        baseline_s, ours_s: median seconds of a call.
        ratio: how many times faster ours is.
        target: how many times faster it is to be, or None.
        baseline_mb, ours_mb: megabytes (10⁶ bytes) that a call takes on top.
        difference: the largest difference of results.
        gflop: 10⁹ operations of a call's convolutions and products, a multiply-add counting as 2;
            None without a network.
        peak_share: how near ours comes to the speed of a product of large matrices.
    """

    case: str
    baseline_s: float
    ours_s: float
    ratio: float
    target: float | None
    baseline_mb: float
    ours_mb: float
    difference: float
    gflop: float | None = None
    peak_share: float | None = None


@tf32(False)
def measure(case: Case, budget: float) -> Row:
    """Measure both sides of a case, without TF32 but where a side allows it for itself.

    The first call of each side, not timed, warms it up, and gives its result and its memory.
    Then both are called in turn, at least `case.repetitions` times each, until `budget` seconds are
    over.

    Raises:
        DifferentResultsError: results differ by more than the case's tolerance.
    """
    expected, baseline_bytes = case.meter(case.baseline)
    with FlopCounterMode(display=False) if case.precision else nullcontext() as counter:
        found, our_bytes = case.meter(case.ours)
    if case.check:
        expected, found = (side() for side in case.check)
    difference = case.difference(found, expected)
    # not >, which NaN would pass
    if not difference <= case.tolerance:
        raise DifferentResultsError(
            f"{case.name}: results differ by {difference:.3g}, more than {case.tolerance:g}"
        )
    del expected, found
    baseline_s, ours_s = _time_in_turn(case, budget)
    gflop = share = None
    if case.precision:
        gflop = counter.get_total_flops() / 1e9
        share = 1e9 * gflop / ours_s / arithmetic(torch.device("cpu"), dtype=case.precision)
    return Row(
        case.name,
        baseline_s,
        ours_s,
        baseline_s / ours_s,
        case.target,
        baseline_bytes / 1e6,
        our_bytes / 1e6,
        difference,
        gflop,
        share,
    )


@cache
def arithmetic(
    device: torch.device, side: int = MATRIX, dtype: torch.dtype = torch.float32
) -> float:
    """Operations a second of a product of square matrices, a multiply-add counting as 2."""
    matrix = torch.rand(side, side, device=device).to(dtype)
    return 2 * side**3 / median_seconds(lambda: matrix @ matrix, 7)


def _time_in_turn(case: Case, budget: float) -> tuple[float, float]:
    baseline, ours = [], []
    end = time.perf_counter() + budget
    while len(ours) < case.repetitions or (len(ours) < MOST and time.perf_counter() < end):
        baseline.append(case.baseline_scale * _seconds(case.baseline))
        ours.append(_seconds(case.ours))
    return statistics.median(baseline), statistics.median(ours)


def median_seconds(call: Callable[[], Any], repetitions: int = FEWEST, warm: int = 1) -> float:
    """The median time of a call that has been warmed up by `warm` more."""
    for _ in range(warm):
        call()
    return statistics.median(_seconds(call) for _ in range(repetitions))


def _seconds(call: Callable[[], Any]) -> float:
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
