"""What PAMR, a training step and inference are bound by, and how near they come to it.

`python -m benchmarks.bounds` measures what this machine's memory and arithmetic can do, and prints
for each the least that it must move or compute over the time that it takes; and what an image of
one's own costs beside the network.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from operator import attrgetter

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import growth_inference
from benchmarks.inference_cases import CLASSES, OBJECTS, drawn_network, two_objects
from benchmarks.measure import arithmetic, median_seconds
from benchmarks.pamr_cases import pamr_inputs
from benchmarks.training_cases import our_step, step_config
from benchmarks.voc_like import SIZE, photograph
from core.config import InferenceConfig
from core.devices import keep_memory, select_device
from core.inference.predict import Merger
from core.inference.tta import Size, resize_views, show_views, tta_views
from core.precision import accelerate
from models.heads.pamr import PAMR
from utils.crf import crf_inference
from utils.errors import run_command

COPIED = 2**28
"""Bytes of the tensor that memory is measured with: more than caches hold."""
ELEMENT = 4
"""Bytes of a float32, and of a neighbour's number."""


def bandwidth(device: torch.device, copied: int = COPIED) -> float:
    """Bytes a second that memory reads and writes, as a copy of so many bytes shows them."""
    source = torch.zeros(copied // ELEMENT, device=device)
    target = torch.empty_like(source)
    return 2 * copied / median_seconds(lambda: target.copy_(source), 7)


def pamr_bytes(pamr: PAMR, pixels: int, classes: int) -> int:
    """The least that PAMR moves through memory if no more than a pixel's neighbours stay in caches.

    An iteration reads N weights and N neighbours' numbers a pixel, and reads and writes its C
    masks. The weights are written as likenesses, put into rows and normalised: five times N.
    """
    neighbours = 8 * len(pamr.dilations)
    iteration = 2 * neighbours + 2 * classes
    return ELEMENT * pixels * (pamr.num_iter * iteration + 5 * neighbours)


def pamr_share(device: torch.device, batch: int = 16, side: int = 81) -> str:
    """How near PAMR comes to the memory's bandwidth."""
    image, masks, _ = pamr_inputs(device, batch, side)
    pamr = PAMR()
    seconds = median_seconds(lambda: pamr(image, masks), 7)
    moved = pamr_bytes(pamr, batch * side**2, masks.shape[1])
    speed = bandwidth(device)
    return (
        f"PAMR, {batch} images, {side}×{side}: {moved / 1e6:.0f} MB in {1000 * seconds:.0f} ms, "
        f"{moved / seconds / speed:.0%} of the memory's {speed / 1e9:.1f} GB/s"
    )


def step_share(device: torch.device, batch: int = 8, size: int = 161) -> str:
    """How near a training step with ResNet50 comes to the speed of matrix products."""
    step = our_step(step_config("resnet50"), device, batch, size)
    with FlopCounterMode(display=False) as counter:
        step.take()
    operations = counter.get_total_flops()
    seconds = median_seconds(step.take)
    speed = arithmetic(device)
    return (
        f"a training step, resnet50, batch {batch}, {size}×{size}: {operations / 1e9:.0f} GFLOP of "
        f"convolutions in {seconds:.2f} s, {operations / seconds / speed:.0%} of the "
        f"{speed / 1e9:.0f} GFLOP/s of matrix products"
    )


def inference_share(device: torch.device) -> str:
    """How near inference comes to the speed of matrix products."""
    found = growth_inference.bound(device)
    return (
        f"inference, resnet50, one view of {growth_inference.SIDE}×{growth_inference.SIDE}: "
        f"{found['gflops']:.0f} GFLOP in {found['seconds']:.2f} s, {found['share']:.0%} of the "
        f"{found['peak']:.0f} GFLOP/s of matrix products"
    )


def image_costs(device: torch.device, backbone: str = "resnet38", size: Size = SIZE) -> str:
    """Seconds of each part of `infer_images.sh` for an image of two objects, one after the other.

    In use the next images are resized beside the network, and CRF and files are those of other
    processes; with two cores they take the time from it nevertheless.
    """
    test = InferenceConfig(AMP="auto", WINDOW="fit")
    model = accelerate(drawn_network(device, backbone), test, device)
    pixels = photograph()[: size[0], : size[1]].copy()
    image, views = Image.fromarray(pixels), tta_views(size, test)
    groups = [list(alike) for _, alike in groupby(views, key=attrgetter("window"))]

    def show() -> list[torch.Tensor]:
        return [show_views(group, resize_views(group, image), device) for group in groups]

    inputs = show()
    labels = torch.zeros(CLASSES - 1, device=device)
    labels[[index - 1 for index in OBJECTS]] = 1
    probabilities = np.ascontiguousarray(two_objects()[:, : size[0], : size[1]])

    with torch.inference_mode():
        answers = [model(part)[1] for part in inputs]

        def merge() -> None:
            merger = Merger(size)
            merger.expect(labels)
            for group, masks in zip(groups, answers, strict=True):
                merger.add_masks(group, masks)
            merger.merged(labels)

        seconds = {
            "the network": median_seconds(lambda: [model(part) for part in inputs], 1, warm=0),
            "making views": median_seconds(show, 5),
            "merging masks": median_seconds(merge, 5),
            "the CRF": median_seconds(
                lambda: crf_inference(pixels, probabilities, present_only=True)
            ),
        }
    total = sum(seconds.values())
    parts = ", ".join(f"{name} {1000 * s:.0f} ms ({s / total:.1%})" for name, s in seconds.items())
    return f"an image of {size[1]}×{size[0]}, {len(views)} views, {backbone}, AMP auto: {parts}"


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.bounds", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default: 2)")
    args = parser.parse_args()
    device = select_device(args.device)
    torch.set_num_threads(args.threads)
    keep_memory(device)  # as the commands do
    for share in (pamr_share, step_share, inference_share, image_costs):
        print(f"- {share(device)}", flush=True)


if __name__ == "__main__":
    run_command(main, prints_result=True)
