"""The sections `wrn38`, `compile` and `loader`: how fast training is, and what makes it faster."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.file_cases import training_samples
from benchmarks.gpu.check import Check
from benchmarks.gpu.steps import apart, flat, gradients_of, published_step, training_step
from benchmarks.measure import synchronize
from benchmarks.training_cases import Step, remove_chance, step_config
from benchmarks.voc_like import write_samples
from core.distributed import SINGLE
from core.training.data import Batches
from core.training.optimizer import build_optimizer

BF16, FP16 = ("TRAIN.AMP", "bf16"), ("TRAIN.AMP", "fp16")
CHECKPOINT, FLOAT32 = ("TRAIN.CHECKPOINT", "True"), ("TRAIN.TF32", "False")
BATCH, FILES = 16, 16
GB = 10**9
NEEDED = 8, round(BATCH / 0.110)
"""Workers, and the images a second that they must load to keep up with a step in bf16."""


class Way(NamedTuple):
    """A way to take training steps, which the project tunes and lays out as it does by default.

    Attributes:
        name: of its row.
        options: keys of the configuration, and their values.
        channels_last: None where it is left to the project.
        benchmark: of cuDNN; off as with --deterministic.
        most_ms: the target for a step on an H100, in milliseconds.
        most_gb: that for the memory reserved, in 10⁹ bytes.
    """

    name: str
    options: tuple[str, ...] = ()
    channels_last: bool | None = None
    benchmark: bool = True
    most_ms: float | None = None
    most_gb: float | None = None


WAYS = (
    Way("float32 without TF32, as published", FLOAT32, most_gb=11),
    Way("float32 with TF32 (the default)", most_ms=230, most_gb=11),
    Way("bf16", BF16, most_ms=110),
    Way("bf16, not tuned", BF16, benchmark=False),
    Way("bf16, channels first", BF16, channels_last=False),
    Way("float32 without TF32, not tuned", FLOAT32, benchmark=False),
    Way("TF32, not tuned", benchmark=False),
    Way("TF32, channels first", channels_last=False),
    Way("fp16", FP16),
    Way("CHECKPOINT, TF32", CHECKPOINT),
    Way("CHECKPOINT, bf16", (*BF16, *CHECKPOINT), most_gb=4),
)
"""Steps are taken with TF32 as their TRAIN.TF32 says."""


def wrn38(check: Check) -> None:
    """The published training step in every precision: time, memory, share of the arithmetic."""
    flops = None
    for way in WAYS[: 3 if check.tiny else None]:
        with check.guarded(way.name):
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
    config = step_config(backbone, *way.options)
    step = training_step(config, check.device, batch, size)
    if way.channels_last is not None:
        last = way.channels_last
        step.model.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        step.optimizer = build_optimizer(step.network, config.NET)  # its state lies as weights do
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
    result = (
        f"{1000 * seconds:.1f} ms, {batch / seconds:.0f} images/s, "
        f"{flops / seconds / 1e12:.0f} TFLOP/s, {check.peak_memory()}, first step {first:.0f} s"
    )
    check.row(way.name, result)
    if way.most_ms:
        told, ok = check.meets(f"{way.most_ms:g} ms", 1000 * seconds <= way.most_ms)
        check.row(f"{way.name}: time", told, ok)
    if way.most_gb:
        reserved = check.reserved() / GB
        told, ok = check.meets(f"{way.most_gb:g} GB", reserved <= way.most_gb, anywhere=True)
        check.row(f"{way.name}: memory", f"{reserved:.2f} GB reserved, {told}", ok)


def compiled_step(check: Check) -> None:
    """TRAIN.COMPILE: gradients against the same without it, how long it takes, what it brings."""
    if check.tiny:
        check.row("COMPILE", "left out")
        return
    _compare_compiled(check, "bf16", *published_step(check.tiny))
    for amp in ("off", "fp16"):  # a smaller network, which is compiled sooner
        _compare_compiled(check, amp, "vgg16", 4, 161)


def _compare_compiled(check: Check, amp: str, backbone: str, batch: int, size: int) -> None:
    expected = None
    for compiled in (False, True):
        what = f"{backbone}, AMP {amp} without dropout, COMPILE {compiled}"
        with check.guarded(what):
            words = ("TRAIN.AMP", amp, "TRAIN.COMPILE", str(compiled))
            config = step_config(backbone, *words)
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
                told = ok = None
                if workers == NEEDED[0]:
                    told, ok = check.meets(f"{NEEDED[1]} images/s", speed >= NEEDED[1])
                result = f"{speed:.0f} images/s of 321x321" + (f", {told}" if told else "")
                check.row(f"{workers} workers", result, ok)
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
