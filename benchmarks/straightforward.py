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


def pseudo_labels(masks: Tensor) -> Tensor:
    """One-hot pseudo labels: 1 where mask c alone exceeds max(0.2, k·(its maximum)).

    k is 0.7 for the background, class 0, and 0.6 for objects.

    Args:
        masks: B×C×H×W, those of absent objects 0.

    Returns:
        B×C×H×W of 0 and 1; none is 1 where no mask is confident, or several are.
    """
    share = torch.full_like(masks[:1, :, :1, :1], 0.6)
    share[:, 0] = 0.7
    peaks = masks.flatten(2).max(dim=2).values[:, :, None, None]
    confident = (masks > (share * peaks).clamp(min=0.2)).to(masks.dtype)
    return confident * (confident.sum(dim=1, keepdim=True) == 1)


def mask_loss(logits: Tensor, one_hot: Tensor, labels: Tensor) -> Tensor:
    """B cross entropies at full size; a pixel of class c weighs (N − n_c)/(1 + N).

    Args:
        logits: B×C×h×w.
        one_hot: B×C×H×W, as `pseudo_labels` gives them.
        labels: B×(C − 1), 0 or 1; an image counts if its pseudo labels hold as many classes, plus
            the background.
    """
    logits = _resize(logits, one_hot.shape[-2:])
    counts = one_hot.sum(dim=(2, 3))
    total = counts.sum(dim=1, keepdim=True)
    class_weight = (total - counts) / (1 + total)
    pixel_weight = (one_hot * class_weight[:, :, None, None]).sum(dim=1)
    targets = one_hot.argmax(dim=1).masked_fill(one_hot.sum(dim=1) == 0, 255)
    entropy = F.cross_entropy(logits, targets, ignore_index=255, reduction="none")
    complete = (counts > 0).sum(dim=1) == labels.sum(dim=1) + 1
    return complete * (pixel_weight * entropy).mean(dim=(1, 2))


def supervise(
    logits: Tensor, raw_images: Tensor, labels: Tensor, focal_p: float, focal_lambda: float
) -> dict[str, Tensor]:
    """From mask logits to what the losses need: every mask of every class goes all the way.

    Args:
        logits: B×C×h×w.
        raw_images: B×3×H×W.
        labels: B×(C − 1), 0 or 1.
        focal_p, focal_lambda: of the penalty (1 − mean m_c)^p · log(λ + mean m_c).

    Returns:
        `cls` B×(C − 1), `fg` B and `loss_mask` B; `masks` and one-hot `pseudo_labels`, B×C×H×W.
    """
    masks = logits.softmax(dim=1)
    pooled = (logits * masks).sum(dim=(2, 3)) / (1 + masks.sum(dim=(2, 3)))
    size = masks.mean(dim=(2, 3))
    scores = pooled + (1 - size) ** focal_p * torch.log(focal_lambda + size)
    present = F.pad(labels, (1, 0), value=1)[:, :, None, None]
    with torch.no_grad():
        full_size = raw_images.shape[-2:]
        refined = pamr(_resize(raw_images, masks.shape[-2:]), masks)
        one_hot = pseudo_labels(_resize(refined, full_size) * present)
        shown = _resize(masks, full_size) * present
        fg = (size[:, 1:] * labels).sum(dim=1) / labels.sum(dim=1).clamp(min=1)
    return {
        "cls": scores[:, 1:],
        "fg": fg,
        "masks": shown,
        "pseudo_labels": one_hot,
        "loss_mask": mask_loss(logits, one_hot, labels),
    }


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
