"""Learning from one's own masks: pseudo labels and the loss on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers import images_at_once, resize_corners
from utils.palette import IGNORE_INDEX


class Unrefined(nn.Module):
    """NET.REFINE "none": pseudo labels are made of the masks as they are.

    Shape:
        image B×3×h×w and masks B×C×h×w to these masks.
    """

    def forward(self, image: Tensor, masks: Tensor) -> Tensor:
        return masks


def make_pseudo_labels(
    masks: Tensor,
    classes: Tensor | None = None,
    background_share: float = 0.7,
    object_share: float = 0.6,
    lowest: float = 0.2,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Label the pixels where exactly one mask is confident.

    Mask c is confident where it exceeds max(`lowest`, k·(its own maximum in this image)), with k
    `background_share` for class 0 and `object_share` for the others.

    Args:
        masks: B×C×H×W in [0, 1], class 0 the background; those of absent objects are 0.
        classes: B×C, what classes the masks are of, where absent ones are left out; the
            background comes first. None: mask c is of class c.

    Returns:
        B×H×W class indices (int64); `ignore_index` where no mask is confident, or several are.
    """
    share = masks.new_full((1, masks.shape[1], 1, 1), object_share)
    share[:, 0] = background_share
    threshold = (share * masks.amax(dim=(2, 3), keepdim=True)).clamp(min=lowest)
    confident = masks > threshold
    labels = confident.to(torch.uint8).argmax(dim=1)
    if classes is not None:
        labels = classes.gather(1, labels.flatten(1)).view_as(labels)
    return labels.masked_fill(confident.sum(dim=1) != 1, ignore_index)


def balanced_mask_loss(
    logits: Tensor, pseudo_labels: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Cross entropy with the pseudo labels in which a class weighs less the more pixels it has.

    A pixel of class c weighs (N − n_c)/(1 + N), where n_c counts the image's pixels of class c and
    N all labelled ones; the mean is over all H·W pixels, unlabelled ones counting as 0. The loss
    of an image is 0 unless its pseudo labels contain the background and every labelled class.

    Args:
        logits: B×C×h×w in float32 or more, brought to H×W bilinear with aligned corners.
        pseudo_labels: B×H×W class indices, or `ignore_index`.
        labels: B×(C − 1), 1 where the image has the object.

    Returns:
        B losses.
    """
    num_classes = logits.shape[1]
    # a class of its own for unlabelled pixels makes counting one scatter
    classes = pseudo_labels.masked_fill(pseudo_labels == ignore_index, num_classes).flatten(1)
    counts = torch.zeros(len(logits), num_classes + 1, dtype=logits.dtype, device=logits.device)
    counts.scatter_add_(1, classes, torch.ones_like(classes, dtype=logits.dtype))
    counts[:, num_classes] = 0
    total = counts.sum(dim=1, keepdim=True)
    class_weight = (total - counts) / (1 + total)
    class_weight[:, num_classes] = 0
    pixel_weight = class_weight.gather(1, classes).view_as(pseudo_labels)
    complete = (counts > 0).sum(dim=1) == labels.sum(dim=1) + 1

    few = images_at_once(logits, pseudo_labels.shape[-2:])
    images = zip(*(x.split(few) for x in (logits, pseudo_labels, pixel_weight)), strict=True)
    # logits of full size exist for few images at a time, in backward too, which makes them again
    losses = [
        checkpoint(
            _weighted_cross_entropy,
            *some,
            ignore_index,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for some in images
    ]
    return complete * torch.cat(losses)


def _weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, ignore_index: int
) -> Tensor:
    """B weighted means over H×W of the cross entropy of logits that are brought to that size."""
    logits = resize_corners(logits, targets.shape[-2:])
    loss = F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="none")
    return (weights * loss).mean(dim=(1, 2))
