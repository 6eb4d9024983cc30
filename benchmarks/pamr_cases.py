"""PAMR at the size of training with crops of 321: 16 images, masks of 81×81."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import straightforward
from benchmarks.case import Builders, Case
from benchmarks.inputs import plausible_logits, random_images, random_labels
from models.heads.pamr import PAMR
from models.network import drop_absent
from models.present import PresentClasses

TOLERANCE = 1e-5  # of masks in [0, 1]


def all_classes(device: torch.device, batch: int = 16, side: int = 81) -> Case:
    """Every mask refined, as in the published system."""
    image, masks, _ = pamr_inputs(device, batch, side)
    pamr = PAMR()
    return Case(
        f"PAMR, {batch} images, {side}×{side}, 21 classes, 10 iterations",
        baseline=lambda: straightforward.pamr(image, masks),
        ours=lambda: pamr(image, masks),
        tolerance=TOLERANCE,
        target=10 if device.type == "cuda" else 40,
    )


def present_classes(device: torch.device, batch: int = 16, side: int = 81) -> Case:
    """As training uses it: what is absent comes out 0."""
    image, masks, labels = pamr_inputs(device, batch, side)
    pamr = PAMR()

    def ours() -> Tensor:
        classes = PresentClasses(labels)
        return classes.spread(pamr(image, classes.select(masks)))

    return Case(
        "PAMR as in training, 1 to 3 objects an image",
        baseline=lambda: drop_absent(straightforward.pamr(image, masks), labels),
        ours=ours,
        tolerance=TOLERANCE,
        target=10 if device.type == "cuda" else 80,
    )


def pamr_inputs(
    device: torch.device, batch: int, side: int, num_classes: int = 21
) -> tuple[Tensor, Tensor, Tensor]:
    """Images B×3×side×side, masks B×C×side×side and labels B×(C − 1)."""
    labels = random_labels(batch, num_classes)
    masks = plausible_logits(labels, side).softmax(dim=1)
    return random_images(batch, side).to(device), masks.to(device), labels.to(device)


CPU_CASES: Builders = {"pamr": all_classes, "pamr-training": present_classes}
CUDA_CASES: Builders = CPU_CASES
