"""The best masks that a network with an output of a given size could give."""

from __future__ import annotations

import numpy as np


def oracle_mask(ground_truth: np.ndarray, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """Take the ground truth's objects one by one to a smaller grid and back.

    Object c's zeros and ones go to h×w and back to H×W, both bilinear with corners not aligned
    and without antialiasing; above 0.5 the pixel is c, where no object is it is background (0).
    Other values, the ignore index among them, belong to no object. Since the objects' values sum
    to at most 1 in every pixel, no two exceed 0.5.

    Args:
        ground_truth: H×W class indices.
        size: (h, w) of the grid.
        num_classes: number of classes, background included.

    Returns:
        H×W class indices of the ground truth's type.
    """
    # torch takes seconds to import, and evaluating masks does without it
    import torch
    import torch.nn.functional as F

    mask = np.zeros_like(ground_truth)
    objects = np.unique(ground_truth)
    for index in objects[(objects > 0) & (objects < num_classes)]:
        full = torch.from_numpy((ground_truth == index).astype(np.float32))[None, None]
        grid = F.interpolate(full, size=size, mode="bilinear", align_corners=False)
        back = F.interpolate(grid, size=full.shape[2:], mode="bilinear", align_corners=False)
        mask[back[0, 0].numpy() > 0.5] = index
    return mask
