"""The masks of an image's views, merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.inference.layout import Size
from core.inference.views import View


class Merger:
    """Merges the outputs of an image's views one by one, so that views need no room of their own.

    Args:
        image_size: the image's height and width.
    """

    def __init__(self, image_size: Size) -> None:
        self._image_size = image_size
        self._sum: Tensor | None = None
        self._count: Tensor | float = 0.0
        self._scores: Tensor | None = None

    def add_scores(self, scores: Tensor) -> None:
        """Take in the raw class scores of a group of views, B×(C−1)."""
        highest = scores.float().sigmoid().amax(dim=0)
        self._scores = highest if self._scores is None else torch.maximum(self._scores, highest)

    def add_masks(self, views: Sequence[View], masks: Tensor, labels: Tensor | None = None) -> None:
        """Take in the masks of a group of views.

        Args:
            views: the B views.
            masks: B×C×(window).
            labels: C−1, zero for the objects whose masks become 0 in the end: no time is spent on
                them. None if that is not known yet.
        """
        if self._sum is None:
            self._sum = masks.new_zeros(masks.shape[1], *self._image_size, dtype=torch.float32)
        parts = [slice(None)]
        if labels is not None:
            present = _background_and(labels).nonzero().flatten().tolist()
            parts = [slice(index, index + 1) for index in present]
        for view, mask in zip(views, masks, strict=True):
            for part in parts:
                self._sum[part] += view.undo(mask[part], self._image_size)
            if view.shows_all:  # spares resizing a map of ones
                self._count = self._count + 1
            else:
                ones = torch.ones_like(mask[:1])
                self._count = self._count + view.undo(ones, self._image_size)

    @property
    def scores(self) -> Tensor:
        """The classes' highest sigmoid score of all views: C−1 values in [0, 1]."""
        if self._scores is None:
            raise ValueError("no view was added")
        return self._scores

    def merged(self, labels: Tensor) -> Tensor:
        """C×(image_size): each pixel's mean over the views that show it.

        `labels` (C−1) is zero for the objects whose masks become 0.
        """
        return (self._sum / self._count).mul_(_background_and(labels)[:, None, None])


def _background_and(labels: Tensor) -> Tensor:
    """C−1 labels as C ones and zeros, the background's, which is always there, first."""
    return torch.cat([labels.new_ones(1), (labels > 0).to(labels.dtype)])
