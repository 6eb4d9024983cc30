"""What training computes beside convolutions, as the published system does: all at once.

Written from the formulas; every intermediate result is held for all classes, neighbours and pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)


def pamr(
    image: Tensor, masks: Tensor, num_iter: int = 10, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Pixel-adaptive refinement by convolutions with constant kernels.

    mask_i ← Σ_j a_ij·mask_j, `num_iter` times, over the 48 neighbours j of pixel i; all neighbours
    of all masks are held at once.

    Args:
        image: B×3×h×w.
        masks: B×C×h×w.

    Returns:
        B×C×h×w.
    """
    places = torch.eye(9, device=image.device, dtype=image.dtype).view(9, 1, 3, 3)
    others = torch.cat([places[:4], places[5:]])
    windows = _gather(image, places, dilations)
    differences = _gather(image, places[4:5] - others, dilations).abs()
    scale = 1e-8 + 0.1 * windows.std(dim=2, keepdim=True)
    likeness = (-differences / scale).mean(dim=1, keepdim=True)
    affinity = likeness.softmax(dim=2)
    for _ in range(num_iter):
        masks = (_gather(masks, others, dilations) * affinity).sum(dim=2)
    return masks


def _gather(maps: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """B×C×h×w maps through K 3×3 kernels at every dilation: B×C×(K·dilations)×h×w."""
    batch, channels, height, width = maps.shape
    planes = maps.reshape(batch * channels, 1, height, width)
    responses = [
        F.conv2d(F.pad(planes, (dilation,) * 4, mode="replicate"), kernels, dilation=dilation)
        for dilation in dilations
    ]
    return torch.cat(responses, dim=1).view(batch, channels, -1, height, width)
