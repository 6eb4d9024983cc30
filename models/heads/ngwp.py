"""Class scores from masks: normalised global weighted pooling and the size-focal penalty."""

from __future__ import annotations

import torch
from torch import Tensor


def normalised_global_weighted_pooling(logits: Tensor, masks: Tensor) -> Tensor:
    """Average each class's logits, weighted by its mask.

    y_c = Σ x_c·m_c / (1 + Σ m_c), sums over space; the 1 keeps an empty mask's score at zero.

    Args:
        logits: B×C×h×w.
        masks: B×C×h×w in [0, 1].

    Returns:
        B×C.
    """
    return (logits * masks).sum(dim=(2, 3)) / (1 + masks.sum(dim=(2, 3)))


def size_focal_penalty(masks: Tensor, p: float, lam: float) -> Tensor:
    """Penalise small masks: (1 − s_c)^p · log(λ + s_c), s_c the mask's mean.

    Args:
        masks: B×C×h×w in [0, 1].
        p: the focal exponent; the larger, the smaller the mask size at which the penalty vanishes.
        lam: λ ≥ 0 bounds the penalty of an empty mask to log λ.

    Returns:
        B×C, at most log(1 + λ).
    """
    size = masks.mean(dim=(2, 3))
    return (1 - size).pow(p) * torch.log(lam + size)
