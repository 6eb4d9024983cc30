"""The section `launches`: where a training step's time goes."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.check import Check
from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.steps import published_step, training_step
from benchmarks.measure import synchronize
from benchmarks.training_cases import Step, step_config
from core.training.engine import MeanLosses, _require_finite, read_late

TAKEN, PROFILED = 5, 2
"""Steps whose phases are timed, and steps that are profiled."""
SHOWN = 24
"""Kernels that are listed."""
MOST_PAMR = 0.02
"""The share of a step that PAMR may take, on an H100."""
SMALL = 8
"""Microseconds below which a kernel takes no longer than its launch."""


def launches(check: Check) -> None:
    """Phases, kernels, and what makes the host wait for the GPU; the CPU only takes steps."""
    backbone, batch, size = published_step(check.tiny)
    for name, options in (("float32 with TF32", ()), ("bf16", ("TRAIN.AMP", "bf16"))):
        with check.guarded(name):
            step = training_step(step_config(backbone, *options), check.device, batch, size)
            for _ in range(3):
                step.take()
            if check.on_gpu:
                with check.guarded(f"{name}, phases"):
                    _phases(check, step, name)
                with check.guarded(f"{name}, profile"):
                    _profile(check, step, name)
            if check.on_gpu and options:
                with check.guarded("host waits"):
                    _waits(check, step)
        step = None
        check.free()


class _Marks:
    """Moments of a step, on the GPU's stream and on the host."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, torch.cuda.Event, float]] = []

    def set(self, what: str) -> None:
        """Here `what` ends."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.moments.append((what, event, time.perf_counter()))

    def durations(self) -> Iterator[tuple[str, float, float]]:
        """What, and its milliseconds on the GPU's stream and of the host."""
        for (_, begin, host_begin), (what, end, host_end) in zip(
            self.moments[:-1], self.moments[1:], strict=True
        ):
            yield what, begin.elapsed_time(end), 1000 * (host_end - host_begin)


def _phases(check: Check, step: Step, name: str) -> None:
    """GPU time by phase, from events on the stream, and the host's time for launching each."""
    durations: dict[str, list[tuple[float, float]]] = {}
    for _ in range(TAKEN):
        marks = _Marks()
        _marked_step(step, marks)
        torch.cuda.synchronize()
        for what, gpu, host in marks.durations():
            durations.setdefault(what, []).append((gpu, host))
    total = pamr = 0.0
    for what, pairs in durations.items():
        gpu, host = (statistics.median(times) for times in zip(*pairs, strict=True))
        total += gpu
        pamr += gpu if what == "PAMR" else 0
        result = f"{gpu:.2f} ms on the GPU's stream, {host:.2f} ms of the host"
        check.row(f"{name}: {what}", result)
    told, ok = check.meets(f"{MOST_PAMR:.0%}", pamr < MOST_PAMR * total)
    check.row(f"{name}: PAMR's share of a step", f"{pamr / total:.1%}, {told}", ok)


def _marked_step(step: Step, marks: _Marks) -> None:
    """A step of training as the engine takes it; for float32 and bf16, which scale no loss."""
    marks.set("start")
    with _marked_network(step, marks):
        losses = step.losses()
    marks.set("losses")
    losses["loss"].mean().backward()
    marks.set("backward")
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)
    marks.set("optimizer")
    MeanLosses().update(losses)
    marks.set("means")


@contextmanager
def _marked_network(step: Step, marks: _Marks) -> Iterator[None]:
    """Set marks around the network's layers, and behind its self-supervision."""
    network = step.network
    run_dense = _marked(network.run_dense, marks, "layers", before="before the layers")
    refine = _marked(network._aff.forward, marks, "PAMR", before="supervise, before PAMR")
    supervise = _marked(network.supervise, marks, "supervise, after PAMR")
    with (
        mock.patch.object(network, "run_dense", run_dense),
        mock.patch.object(network._aff, "forward", refine),
        mock.patch.object(network, "supervise", supervise),
    ):
        yield


def _marked(
    function: Callable[..., Any], marks: _Marks, what: str, before: str = ""
) -> Callable[..., Any]:
    def marked(*arguments: Any, **named: Any) -> Any:
        if before:
            marks.set(before)
        result = function(*arguments, **named)
        marks.set(what)
        return result

    return marked


def _profile(check: Check, step: Step, name: str) -> None:
    """The kernels of a step by the time that they take."""
    synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        begin = time.perf_counter()
        for _ in range(PROFILED):
            step.take()
        synchronize()
        wall = (time.perf_counter() - begin) / PROFILED
    kernels = [
        (event.name, event.time_range.elapsed_us())
        for event in profiler.events()
        if _is_kernel(event)
    ]
    busy = sum(microseconds for _, microseconds in kernels) / PROFILED / 1e6
    check.row(
        f"{name}: kernels",
        f"{len(kernels) // PROFILED} a step, busy for {1000 * busy:.1f} ms of "
        f"{1000 * wall:.1f} ms (profiled)",
    )
    times: dict[str, list[float]] = {}
    for kernel, microseconds in kernels:
        times.setdefault(kernel, []).append(microseconds)
    for kernel, each in sorted(times.items(), key=lambda item: -sum(item[1]))[:SHOWN]:
        milliseconds, count = sum(each) / PROFILED / 1000, len(each) / PROFILED
        print(f"    {milliseconds:8.3f} ms {count:6.0f}x  {kernel[:110]}")
    small = sum(microseconds < SMALL for _, microseconds in kernels)
    check.row(f"{name}: kernels under {SMALL} us", f"{small // PROFILED} a step")


def _is_kernel(event: Any) -> bool:
    return (
        str(event.device_type).endswith("CUDA")
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(("Optimizer.", "ProfilerStep"))
    )


def _steps(step: Step) -> Iterator[dict[str, Tensor]]:
    """A step as the engine takes it."""
    losses = step.losses()
    yield losses
    step.precision.step(losses["loss"].mean(), step.optimizer)


def _waits(check: Check, step: Step) -> None:
    """Every place at which the host waits for the GPU, by PyTorch's own account."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            means = MeanLosses()
            for losses in read_late(_steps(step), check.device):
                _require_finite(losses["loss"], None, 0, 0, "")
                means.update(losses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found: dict[str, int] = {}
    for warning in caught:
        if "synchronizing" in str(warning.message):
            path = Path(warning.filename)
            ours = ROOT in path.parents
            place = path.relative_to(ROOT) if ours else Path(*path.parts[-3:])
            key = f"{place}:{warning.lineno}"
            found[key] = found.get(key, 0) + 1
    places = "; ".join(f"{place} ({times}x)" for place, times in found.items())
    told, ok = check.meets("none", not places, anywhere=True)
    check.row("places where the host waits, in a step", f"{places or 'none'}, {told}", ok)
