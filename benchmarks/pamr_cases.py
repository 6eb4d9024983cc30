"""PAMR at the size of training with crops of 321: 16 images, masks of 81×81."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import straightforward
from benchmarks.case import Builders, Case
from models.heads.pamr import PAMR

BATCH, CLASSES, SIDE = 16, 21, 81
OBJECTS = (1, 1, 2, 1, 3, 1, 2, 1)
"""Objects that images have, in turn; in VOC's images for training there are 1.5 on average."""


def all_classes(device: torch.device) -> Case:
    image, masks = random_inputs(device)
    pamr = PAMR()
    return Case(
        "PAMR, 16 images, 81×81, 21 classes, 10 iterations",
        baseline=lambda: straightforward.pamr(image, masks),
        ours=lambda: pamr(image, masks),
        tolerance=1e-5,
        target=10 if device.type == "cuda" else 40,
    )


def present_classes(device: torch.device) -> Case:
    image, masks = random_inputs(device)
    labels = random_labels(device)
    present = torch.nn.functional.pad(labels, (1, 0), value=1) > 0
    pamr = PAMR()
    return Case(
        "PAMR as in training, 1 to 3 objects an image",
        baseline=lambda: straightforward.pamr(image, masks) * present[:, :, None, None],
        ours=lambda: pamr(image, masks, present),
        tolerance=1e-5,
        target=10 if device.type == "cuda" else 80,
    )


def random_inputs(
    device: torch.device, batch: int = BATCH, classes: int = CLASSES, side: int = SIDE
) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] with smooth parts and noise, and masks that sum to one over the classes."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 9, 9, generator=random)
    image = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    image = image + 0.02 * torch.rand(batch, 3, side, side, generator=random)
    logits = 3 * torch.randn(batch, classes, side, side, generator=random)
    return image.to(device), logits.softmax(dim=1).to(device)


def random_labels(device: torch.device, batch: int = BATCH, classes: int = CLASSES) -> Tensor:
    """B×(C − 1) labels, `OBJECTS` an image."""
    labels = torch.zeros(batch, classes - 1)
    for index, row in enumerate(labels):
        for number in range(OBJECTS[index % len(OBJECTS)]):
            row[(7 * index + 5 * number) % (classes - 1)] = 1
    return labels.to(device)


CPU_CASES: Builders = {"pamr": all_classes, "pamr-present": present_classes}
CUDA_CASES: Builders = CPU_CASES
