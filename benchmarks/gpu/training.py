"""The sections `wrn38`, `compile` and `loader`: how fast training is, and what makes it faster."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.file_cases import training_samples
from benchmarks.gpu.check import Check, tf32
from benchmarks.gpu.steps import apart, flat, gradients_of, published_step, training_step
from benchmarks.measure import synchronize
from benchmarks.training_cases import Step, remove_chance, step_config
from benchmarks.voc_like import write_samples
from core.distributed import SINGLE
from core.training.data import Batches

BF16, FP16 = ("TRAIN.AMP", "bf16"), ("TRAIN.AMP", "fp16")
CHECKPOINT = ("TRAIN.CHECKPOINT", "True")
BATCH, FILES = 16, 16


class Way(NamedTuple):
    """A way to take training steps; `channels_last` is None where it is left to the project."""

    name: str
    options: tuple[str, ...] = ()
    tf32: bool = True
    channels_last: bool | None = None
    benchmark: bool = False


WAYS = (
    Way("float32 without TF32, as published", tf32=False),
    Way("float32 with TF32 (the project's default)"),
    Way("bf16 (channels last, as the project does)", BF16),
    Way("bf16, benchmark", BF16, benchmark=True),
    Way("bf16, channels first", BF16, channels_last=False),
    Way("TF32, benchmark", benchmark=True),
    Way("TF32, channels last", channels_last=True),
    Way("TF32, channels last, benchmark", channels_last=True, benchmark=True),
    Way("fp16", FP16),
    Way("CHECKPOINT, TF32", CHECKPOINT),
    Way("CHECKPOINT, bf16", (*BF16, *CHECKPOINT)),
)


def wrn38(check: Check) -> None:
    """The published training step in every precision: time, memory, share of the arithmetic."""
    flops = None
    for way in WAYS[: 3 if check.tiny else None]:
        with check.guarded(way.name), tf32(way.tf32):
            check.free()
            torch.backends.cudnn.benchmark = way.benchmark
            step = _step(check, way)
            if flops is None:
                flops = _count_operations(check, step)
            _time_steps(check, way, step, flops)
        step = None
        torch.backends.cudnn.benchmark = False
        check.free()


def _step(check: Check, way: Way) -> Step:
    backbone, batch, size = published_step(check.tiny)
    step = training_step(step_config(backbone, *way.options), check.device, batch, size)
    if way.channels_last is not None:
        last = way.channels_last
        step.model.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    return step


def _count_operations(check: Check, step: Step) -> int:
    """Of convolutions and matrix products in a step, a multiply-add counting as 2."""
    backbone, batch, size = published_step(check.tiny)
    step.take()  # makes the optimizer's state
    with FlopCounterMode(display=False) as counter:
        step.take()
    flops = counter.get_total_flops()
    what = f"{backbone} {batch}x{size}x{size}"
    check.row("operations", f"{what}: {flops / 1e12:.2f} TFLOP a step")
    check.free()
    return flops


def _time_steps(check: Check, way: Way, step: Step, flops: int) -> None:
    batch = len(step.labels)
    begin = time.perf_counter()
    step.take()
    synchronize()
    first = time.perf_counter() - begin
    seconds = check.seconds(step.take, 6)
    extra = f", first step {first:.0f} s" if way.benchmark else ""
    check.row(
        way.name,
        f"{1000 * seconds:.1f} ms, {batch / seconds:.0f} images/s, "
        f"{flops / seconds / 1e12:.0f} TFLOP/s, {check.peak_memory()}{extra}",
    )


def compiled_step(check: Check) -> None:
    """TRAIN.COMPILE: gradients against the same without it, how long it takes, what it brings."""
    if check.tiny:
        check.row("COMPILE", "left out")
        return
    backbone, batch, size = published_step(check.tiny)
    expected = None
    for compiled in (False, True):
        what = f"{backbone} bf16 without dropout, COMPILE {compiled}"
        with check.guarded(what):
            config = step_config(backbone, *BF16, "TRAIN.COMPILE", str(compiled))
            step = training_step(config, check.device, batch, size)
            remove_chance(step.network)
            begin = time.perf_counter()
            step.losses()["loss"].mean().backward()
            synchronize()
            first = time.perf_counter() - begin
            found = flat(gradients_of(step.network)).cpu()
            expected = found if expected is None else expected
            step.optimizer.zero_grad(set_to_none=True)
            milliseconds = check.milliseconds(step.take, 6)
            off = apart(found, expected)
            check.row(
                what,
                f"first pass {first:.0f} s, a step {milliseconds:.1f} ms, {check.peak_memory()}, "
                f"gradients {off:.1e} from those without",
                off < 0.2,
            )
        step = None
        check.free()


def loader(check: Check) -> None:
    """Training samples a second, by number of workers."""
    count = 2 * BATCH if check.tiny else 32 * BATCH
    with tempfile.TemporaryDirectory() as folder:
        # few files, read often: the system's cache holds them, as it would VOC's 2 GB
        entries = write_samples(Path(folder), FILES) * (count // FILES)
        for workers in (2,) if check.tiny else (2, 4, 8, 16):
            with check.guarded(f"{workers} workers"):
                samples = training_samples(entries)
                batches = Batches(samples, BATCH, workers, check.device, SINGLE, training=True)
                _pass(batches, 0, check.device)  # starts the workers
                begin = time.perf_counter()
                seen = _pass(batches, 1, check.device)
                speed = seen / (time.perf_counter() - begin)
                check.row(f"{workers} workers", f"{speed:.0f} images/s of 321x321")
                del batches


def _pass(batches: Batches, epoch: int, device: torch.device) -> int:
    """Bring an epoch's batches to the device; returns how many images there were."""
    seen = 0
    for raw, labels in batches.epoch(epoch):
        raw.to(device, non_blocking=True)
        labels.to(device, non_blocking=True)
        seen += len(labels)
    synchronize()
    return seen
