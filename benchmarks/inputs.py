"""Images, labels and masks that the cases work on, the same in every run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OBJECTS = (1, 1, 2, 1, 3, 1, 2, 1)
"""Objects that images have, in turn; in VOC's images for training there are 1.5 on average."""


def random_images(batch: int, side: int, seed: int = 0) -> Tensor:
    """B×3×side×side images in [0, 1] with smooth parts and noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 9, 9, generator=random)
    smooth = F.interpolate(coarse, (side, side), mode="bilinear")
    return 0.95 * smooth + 0.05 * torch.rand(batch, 3, side, side, generator=random)


def random_labels(batch: int, num_classes: int = 21) -> Tensor:
    """B×(C − 1) labels, `OBJECTS` an image."""
    labels = torch.zeros(batch, num_classes - 1)
    for index, row in enumerate(labels):
        for number in range(OBJECTS[index % len(OBJECTS)]):
            row[(7 * index + 5 * number) % len(row)] = 1
    return labels


def plausible_logits(labels: Tensor, side: int, seed: int = 0) -> Tensor:
    """B×C×side×side mask logits that find the objects of `labels`, each in a place of its own.

    As in the network, the background's are 1. Pseudo labels of their masks hold every class of the
    image, so that every image has a mask loss.
    """
    random = torch.Generator().manual_seed(seed)
    logits = 0.5 * torch.randn(len(labels), 1 + labels.shape[1], side, side, generator=random) - 3
    logits[:, 0] = 1
    left, right = side // 5, side - side // 5
    for image, present in zip(logits, labels, strict=True):
        objects = present.nonzero().flatten().tolist()
        for place, number in enumerate(objects):
            top, bottom = (int((place + part) / len(objects) * side) for part in (0.2, 0.8))
            image[1 + number, top:bottom, left:right] += 8
    return logits
