"""The section `inference`: the views of an image through the network, and all around it."""

from __future__ import annotations

import copy
import pickle
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.check import Check, has_crf
from benchmarks.inference_cases import share_of_pixels, two_objects
from benchmarks.voc_like import photograph
from core.config import Config, InferenceConfig
from core.distributed import place
from core.inference.predict import Predictor
from core.inference.samples import Sample
from core.inference.tta import resize_views, show_views, tta_views
from core.precision import accelerate, tf32
from models import get_model
from models.network import Network
from utils.crf import crf_inference

CLASSES = 21
WAYS = (
    ("float32 without TF32 (the project's)", "off", True),
    ("bf16", "bf16", True),
    ("fp16", "fp16", True),
    ("bf16, not tuned", "bf16", False),
)
"""A name, TEST.AMP and cudnn.benchmark; the first one's masks are what the others are held to."""
MOST_MS, MOST_APART = 160, 0.005
"""Targets for eight views in bf16: the network's time on an H100, and the share of other pixels."""


def inference(check: Check) -> None:
    """Eight views of an image: the network, and the whole way from the image to merged masks."""
    task = _make_task(check)
    flops, expected = None, None
    for name, amp, benchmark in WAYS[: 1 if check.tiny else None]:
        with check.guarded(name):
            check.free()
            torch.backends.cudnn.benchmark = benchmark
            network = place(copy.deepcopy(task.network), check.device).eval()
            if flops is None:
                flops = _count_operations(check, task, network)
            # the network itself is changed
            model = accelerate(network, replace(task.test, AMP=amp), check.device)
            found = _time_model(check, task, model, name, flops, expected)
            expected = found if expected is None else expected
            if amp == "off" and check.on_gpu:
                with check.guarded(f"{name}, TF32"):
                    _time_with_tf32(check, task, model)
        torch.backends.cudnn.benchmark = False
        network = model = None
        check.free()
    with check.guarded("results to another process"):
        _time_pickling(check, task)
    if has_crf():
        with check.guarded("CRF"):
            _time_crf(check)


@dataclass(frozen=True)
class _Task:
    """Images to predict, their TEST section, the views of one on the device, and the network."""

    test: InferenceConfig
    samples: list[Sample]
    inputs: Tensor
    network: Network


def _make_task(check: Check) -> _Task:
    backbone, side, count = ("vgg16", 48, 1) if check.tiny else ("resnet38", 1024, 6)
    pixels = photograph()[:22, :23].copy() if check.tiny else photograph()
    test = InferenceConfig(PAD_SIZE=(side, side), FP_CUT_SCORE=0.0, SCALES=(1, 0.5, 1.5, 2.0))
    samples = [Sample(str(number), Image.fromarray(pixels)) for number in range(count)]
    views, image = tta_views(samples[0].size, test), samples[0].image
    resizing = check.milliseconds(lambda: resize_views(views, image, check.on_gpu), 5)
    check.row("resizing for views on the host (one thread)", f"{resizing:.0f} ms an image")
    resized = resize_views(views, image, check.on_gpu)
    showing = check.milliseconds(lambda: show_views(views, resized, check.device), 5)
    check.row(f"making {len(views)} views on the device", f"{showing:.1f} ms an image")
    inputs = show_views(views, resized, check.device)
    return _Task(test, samples, inputs, _network(backbone, inputs, side // 2))


@torch.no_grad()
def _network(backbone: str, inputs: Tensor, side: int) -> Network:
    """A network from scratch, on the CPU, with the statistics of the views' upper left corners.

    BatchNorm with statistics of no data would leave no features.
    """
    torch.manual_seed(0)
    with inputs.device:
        net = replace(Config().NET, BACKBONE=backbone, FREEZE_BN=False)
        network = get_model(net, num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    network.to(inputs.device).train()
    network(inputs[::2, :, :side, :side].contiguous())
    return network.cpu()


def _count_operations(check: Check, task: _Task, network: nn.Module) -> int:
    """Of all views, a multiply-add counting as 2."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(task.inputs[:1])
    views, _, height, width = task.inputs.shape
    flops = views * counter.get_total_flops()
    check.row("operations", f"{flops / 1e12:.1f} TFLOP for {views} views of {height}x{width}")
    return flops


def _time_model(
    check: Check,
    task: _Task,
    model: nn.Module,
    name: str,
    flops: int,
    expected: np.ndarray | None,
) -> np.ndarray:
    """Time the network alone and the whole way; returns the classes of an image's pixels."""
    predictor = Predictor(model, task.test, check.device)
    list(predictor.predict(task.samples[:1]))
    check.free()
    with tf32(False):  # as the predictor has it
        forward = _seconds_of(check, task, model)
    memory = check.peak_memory()
    begin = time.perf_counter()
    results = list(predictor.predict(task.samples))
    whole = (time.perf_counter() - begin) / len(task.samples)
    found = results[0].merged.argmax(axis=0)
    apart = share_of_pixels(found, found if expected is None else expected)
    check.row(
        name,
        f"network {1000 * forward:.0f} ms ({flops / forward / 1e12:.0f} TFLOP/s), all "
        f"{1000 * whole:.0f} ms an image, {memory}, {apart:.2%} of pixels differ from float32's",
    )
    if name == "bf16":
        told, ok = check.meets(f"{MOST_MS} ms", 1000 * forward <= MOST_MS)
        check.row("bf16: the network's time", told, ok)
        told, ok = check.meets(f"{MOST_APART:.1%} apart", apart <= MOST_APART, anywhere=True)
        check.row("bf16: masks", told, ok)
    return found


def _time_with_tf32(check: Check, task: _Task, model: nn.Module) -> None:
    with tf32(True):
        forward = _seconds_of(check, task, model)
        model.to(memory_format=torch.channels_last)
        last = _seconds_of(check, task, model)
    result = f"network {1000 * forward:.0f} ms, channels last {1000 * last:.0f} ms"
    check.row("for comparison: TF32", result)


@torch.inference_mode()
def _seconds_of(check: Check, task: _Task, model: nn.Module) -> float:
    return check.seconds(lambda: model(task.inputs), 3, 1)


def _time_pickling(check: Check, task: _Task) -> None:
    merged = np.zeros((CLASSES, *task.samples[0].size), np.float32)
    pickling = check.milliseconds(lambda: pickle.dumps(merged, protocol=4), 5)
    check.row(
        "pickling an image's merged masks for a writer",
        f"{pickling:.1f} ms, {merged.nbytes / 1e6:.1f} MB",
    )


def _time_crf(check: Check) -> None:
    image, masks = photograph(), two_objects()
    every = check.milliseconds(lambda: crf_inference(image, masks), 3, 1)
    present = check.milliseconds(lambda: crf_inference(image, masks, present_only=True), 3, 1)
    result = f"all 21 classes {every:.0f} ms, present ones alone {present:.0f} ms"
    check.row("CRF of 500x375 on one core", result)
