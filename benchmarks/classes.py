"""What the number of classes costs: `python -m benchmarks.classes` prints a table.

A step and an image have as many objects, whatever the data set has: what follows them costs the
same with 81 classes, and only what needs every logit may grow, no faster than the logits do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks.inputs import plausible_logits, random_labels
from benchmarks.measure import median_seconds
from benchmarks.meters import Meter, python_peak, tensor_peak
from benchmarks.training_cases import our_step, step_config, without_convolutions
from benchmarks.voc_like import photograph
from core.config import Config, load_config
from core.devices import select_device
from core.distributed import place
from core.inference.predict import Predictor
from core.inference.samples import Sample
from models import get_model
from utils.crf import crf_inference
from utils.errors import run_command

CLASSES = (21, 81, 201)
CONFIG = Path(__file__).resolve().parents[1] / "configs/coco_resnet50.yaml"
BATCH, SIZE = 16, 161
IMAGE = (640, 480)
"""Width and height of most of COCO's images."""

Call = Callable[[], Any]
Row = dict[str, Any]


def step_calls(
    classes: int, device: torch.device, batch: int = BATCH, size: int = SIZE
) -> Iterator[tuple[str, Meter, Call]]:
    """A training step (ResNet50), and what of it follows the mask logits."""
    name = f"a training step, resnet50, {batch}×{size}×{size}"
    step = our_step(step_config("resnet50"), device, batch, size, classes)
    step.take()  # the first one makes the optimizer's state, which is no cost of others
    yield name, tensor_peak, step.take
    del step
    rest = without_convolutions(device, batch, size, classes).ours
    yield f"{name}, but for its convolutions", tensor_peak, rest


def inference_calls(
    classes: int, device: torch.device, image: tuple[int, int] = IMAGE
) -> Iterator[tuple[str, Meter, Call]]:
    """One view of an image with two objects (ResNet50), what of it follows the logits, its CRF."""
    config = load_config(CONFIG)
    name = f"inference of an image, {image[0]}×{image[1]}, one view"
    test = replace(config.TEST, SCALES=(1.0,), FLIP=False, WINDOW="fit")
    predictor = Predictor(_network(config, classes, device), test, device)
    labels = random_labels(3, classes)[2:]  # two objects
    picture = Image.fromarray(photograph()).resize(image)
    sample = Sample("photograph", picture, labels=labels[0].numpy())

    def predict() -> np.ndarray:
        [(_, merged, _)] = predictor.predict([sample])
        return merged

    yield name, tensor_peak, predict
    side = -(-max(image) // 4)
    logits = plausible_logits(labels, side)[..., : -(-image[1] // 4), :].to(device)
    with mock.patch.object(predictor.model, "forward_dense", lambda images: logits):
        yield f"{name}, but for its convolutions", tensor_peak, predict
        merged = predict()
    present = test.CRF_PRESENT_ONLY
    pixels = np.array(picture)

    def crf() -> np.ndarray:
        return crf_inference(pixels, merged, present_only=present)

    yield "its CRF", python_peak, crf


def measure(
    calls: Callable[..., Iterator[tuple[str, Meter, Call]]],
    classes: Sequence[int],
    device: torch.device,
    **sizes: Any,
) -> list[Row]:
    """Rows of `what`, `classes`, median `seconds` and the extra memory at the peak, `mb`."""
    rows = []
    for number in classes:
        for what, meter, call in calls(number, device, **sizes):
            _, peak = meter(call)  # which warms it up, too
            seconds = median_seconds(call, warm=0)
            rows.append({"what": what, "classes": number, "seconds": seconds, "mb": peak / 1e6})
    return rows


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table: a line for each `what`, columns of time and memory by classes."""
    classes = list(dict.fromkeys(row["classes"] for row in rows))
    columns = [f"{number} classes" for number in classes]
    lines = [f"| what | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for what in dict.fromkeys(row["what"] for row in rows):
        found = {row["classes"]: row for row in rows if row["what"] == what}
        cells = [f"{1000 * found[n]['seconds']:.0f} ms, {found[n]['mb']:.0f} MB" for n in classes]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _network(config: Config, classes: int, device: torch.device) -> torch.nn.Module:
    return place(get_model(config.NET, classes), device).eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.classes", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default: 2)")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES, help="their numbers")
    args = parser.parse_args()
    device = select_device(args.device)
    torch.set_num_threads(args.threads)
    rows = measure(step_calls, args.classes, device)
    rows += measure(inference_calls, args.classes, device)
    print(table(rows), flush=True)


if __name__ == "__main__":
    run_command(main, prints_result=True)
