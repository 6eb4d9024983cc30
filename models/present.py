"""The few classes that a batch's images have, out of all there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class PresentClasses:
    """Each image's background and objects, in as many columns as the richest image needs (K).

    What treats every class by itself need not be given the absent ones, which are most.

    Args:
        labels: B×(C − 1), 1 where the image has the object. K is read from them: on a GPU that
            means waiting for it, on the CPU nothing.
        device: where the maps are; that of the labels if None.

    Attributes:
        labels: on that device.
        numbers: B×K classes; an image's own come first, in order, and absent ones fill the rest.
    """

    def __init__(self, labels: Tensor, device: torch.device | None = None) -> None:
        width = 1 + int((labels > 0).sum(dim=1).max())
        self.labels = labels.to(device or labels.device, non_blocking=True)
        present = F.pad(self.labels, (1, 0), value=1) > 0
        self.num_classes = present.shape[1]
        order = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        self.numbers = order[:, :width]
        self._present = present.gather(1, self.numbers)

    def select(self, maps: Tensor) -> Tensor:
        """B×C×h×w maps to B×K×h×w: those of `numbers`, absent classes 0."""
        return maps.gather(1, self._index(maps)) * self._present[:, :, None, None]

    def spread(self, selected: Tensor) -> Tensor:
        """B×K×h×w maps back to B×C×h×w, absent classes 0."""
        batch, _, *size = selected.shape
        maps = selected.new_zeros(batch, self.num_classes, *size)
        return maps.scatter_(1, self._index(selected), selected)

    def _index(self, maps: Tensor) -> Tensor:
        return self.numbers[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
