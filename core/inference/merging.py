"""The masks of an image's views, merged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

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
        self._scores: Tensor | None = None
        self._present: Tensor | None = None  # indices of the classes summed; None: all
        # of plain and of mirrored views, which are mirrored back together in the end
        self._sums: list[Tensor | float] = [0.0, 0.0]
        self._counts: list[Tensor | float] = [0.0, 0.0]

    def add_scores(self, scores: Tensor) -> None:
        """Take in the raw class scores of a group of views, B×(C−1)."""
        highest = scores.float().sigmoid().amax(dim=0)
        self._scores = highest if self._scores is None else torch.maximum(self._scores, highest)

    def expect(self, labels: Tensor) -> None:
        """Spend no time on the masks of objects whose `labels` (C−1) are 0.

        For labels that are known before any masks are added, and that `merged` gets too.
        """
        self._present = _background_and(labels).nonzero().flatten()

    def add_masks(self, views: Sequence[View], masks: Tensor) -> None:
        """Take in the masks of a group of B views: B×C×(window)."""
        # a view and its mirrored one go back to the image's size together
        start = 0
        for _, group in groupby(views, key=lambda view: view.frame):
            alike = list(group)
            self._add_alike(alike, masks[start : start + len(alike)])
            start += len(alike)

    def _add_alike(self, views: list[View], masks: Tensor) -> None:
        """Add views of one frame."""
        first = views[0]
        undone = first.undo(masks, self._image_size, self._present)
        shown: Sequence[Tensor | float] = [1.0] * len(views)  # spares resizing maps of ones
        if not first.shows_all:
            shown = first.undo(torch.ones_like(masks[:, :1]), self._image_size)
        for view, maps, count in zip(views, undone, shown, strict=True):
            self._sums[view.mirrored] += maps
            self._counts[view.mirrored] += count

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
        kept = _background_and(labels)
        mean = _joined(self._sums) / _joined(self._counts)
        if self._present is None:
            return mean.mul_(kept[:, None, None])
        merged = mean.new_zeros(len(kept), *self._image_size)
        merged[self._present] = mean
        return merged


def _joined(parts: Sequence[Tensor | float]) -> Tensor | float:
    """The sum of what is plain and what is mirrored."""
    plain, mirrored = parts
    return plain + (mirrored.flip(-1) if isinstance(mirrored, Tensor) else mirrored)


def _background_and(labels: Tensor) -> Tensor:
    """C−1 labels as C ones and zeros, the background's, which is always there, first."""
    return torch.cat([labels.new_ones(1), (labels > 0).to(labels.dtype)])
