"""Inference's time and memory against image side and classes, and what bounds it.

`python -m benchmarks.growth_inference` prints both; `measure` is for the plot.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import arithmetic
from benchmarks.meters import tensor_peak
from benchmarks.voc_like import photograph
from core.config import Config, InferenceConfig
from core.devices import select_device
from core.distributed import place
from core.inference.predict import Prediction, Predictor
from core.inference.samples import Sample
from models import get_model
from models.network import Network
from utils.errors import run_command

SIDES = (161, 321, 481, 641)
CLASSES = (2, 21, 41, 81)
SIDE, NUM_CLASSES = 321, 21
"""What stays the same while the other one grows."""
REPETITIONS = 3


def measure(device: torch.device | None = None) -> list[dict[str, float | str]]:
    """Predict one square image, one view, ResNet50, at growing sides and numbers of classes.

    Returns:
        Rows of `axis` ("side" or "classes"), `side` in pixels, `classes`, median `seconds` of an
        image, and the peak `mb` of tensors in megabytes.
    """
    device = device or torch.device("cpu")
    points = [("side", side, NUM_CLASSES) for side in SIDES]
    points += [("classes", SIDE, classes) for classes in CLASSES]
    return [_point(*point, device) for point in points]


def bound(device: torch.device | None = None) -> dict[str, float]:
    """How near inference comes to what the machine's matrix products reach.

    Returns:
        `gflops` of one view of `SIDE` pixels (2 a multiply-add), `seconds` of the image, the
        `peak` in GFLOPS of a product of large matrices (see `arithmetic`), and `share`, the least
        time that the view takes at this rate over that which it takes.
    """
    device = device or torch.device("cpu")
    model = _network(NUM_CLASSES, device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 3, SIDE, SIDE, device=device))
    gflops = counter.get_total_flops() / 1e9
    seconds = _point("side", SIDE, NUM_CLASSES, device)["seconds"]
    peak = arithmetic(device) / 1e9
    return {"gflops": gflops, "seconds": seconds, "peak": peak, "share": gflops / peak / seconds}


def main() -> None:
    device = select_device("auto")
    print("| side | classes | seconds | MB |\n|---:|---:|---:|---:|")
    for row in measure(device):
        print(f"| {row['side']} | {row['classes']} | {row['seconds']:.3f} | {row['mb']:.0f} |")
    found = bound(device)
    print(
        f"\nA view of {SIDE}×{SIDE}: {found['gflops']:.0f} GFLOP in {found['seconds']:.2f} s, "
        f"{100 * found['share']:.0f} % of the {found['peak']:.0f} GFLOPS of matrix products"
    )


def _point(axis: str, side: int, classes: int, device: torch.device) -> dict[str, float | str]:
    test = InferenceConfig(
        SCALES=(1.0,), FLIP=False, PAD_SIZE=(side, side), NUM_CLASSES=classes, FP_CUT_SCORE=0.0
    )
    model = _network(classes, device)
    sample = Sample("square", Image.fromarray(photograph()).resize((side, side)))

    def call() -> list[Prediction]:
        return list(Predictor(model, test, device).predict([sample]))

    _, peak = tensor_peak(call)
    return {
        "axis": axis,
        "side": side,
        "classes": classes,
        "seconds": _seconds(call, device),
        "mb": peak / 1e6,
    }


def _network(classes: int, device: torch.device) -> Network:
    net = replace(Config().NET, BACKBONE="resnet50")
    return place(get_model(net, num_classes=classes), device).eval()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    run_command(main, prints_result=True)
