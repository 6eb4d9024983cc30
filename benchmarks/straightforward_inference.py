"""What inference and evaluation compute beside convolutions, as the published system does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.inference.tta import Size, TTAView


def merge(views: Sequence[TTAView], masks: Tensor, labels: Tensor, image_size: Size) -> Tensor:
    """Merge the masks of views, all of them at full size at once.

    Args:
        views: the V views; each shows the image whole.
        masks: V×C×(window).
        labels: C−1, zero for the objects whose masks become 0.
        image_size: the image's height and width.

    Returns:
        C×(image_size), the mean over the views.
    """
    undone = []
    for view, mask in zip(views, masks, strict=True):
        top, left = (-corner for corner in view.corner)
        cut = mask[:, top : top + view.size[0], left : left + view.size[1]]
        resized = F.interpolate(cut[None], image_size, mode="bilinear", align_corners=False)[0]
        undone.append(resized.flip(-1) if view.flipped else resized)
    stacked = torch.stack(undone)
    stacked[:, 1:] *= labels[:, None, None]
    return stacked.mean(dim=0)


def confusion_matrix(
    ground_truth: np.ndarray, prediction: np.ndarray, num_classes: int = 21
) -> np.ndarray:
    """Count the pairs of classes pixel by pixel; rows are ground truth, columns predictions."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    for true, predicted in zip(ground_truth.flat, prediction.flat, strict=True):
        if true < num_classes and predicted < num_classes:
            counts[true, predicted] += 1
    return counts
