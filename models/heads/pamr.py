"""Pixel-adaptive mask refinement (PAMR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# rows and columns of a pixel's eight neighbours, in row order
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class PAMR(nn.Module):
    """Refine masks with the image: each pixel takes its neighbours' masks, weighted by likeness.

    The neighbours j of a pixel i are its eight at every dilation, edges replicated. Per colour
    channel their likeness is −|I_i − I_j| / (1e-8 + 0.1·σ_i), with σ_i the unbiased deviation of
    the values in i's 3×3 windows at all dilations; the mean over the channels goes through a
    softmax over j and gives a_ij. Then, `num_iter` times, mask_i ← Σ_j a_ij·mask_j.

    Neighbours are slices of one padded tensor, visited in turn: no copy of the masks for each of
    the neighbours is held.

    Args:
        num_iter: number of iterations T.
        dilations: the dilations.

    Shape:
        image B×3×h×w and masks B×C×h×w to masks B×C×h×w. The image's range does not matter.
    """

    def __init__(self, num_iter: int = 10, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24)) -> None:
        super().__init__()
        self.num_iter = num_iter
        self.dilations = tuple(dilations)

    def forward(self, image: Tensor, masks: Tensor, present: Tensor | None = None) -> Tensor:
        """Refine masks.

        Args:
            image: B×3×h×w.
            masks: B×C×h×w.
            present: B×C, true where the image has the class; other masks come out 0. None: all.

        Returns:
            B×C×h×w.
        """
        if present is not None:
            return self._refine_present(image, masks, present)
        affinity = self.affinity(image)
        for _ in range(self.num_iter):
            refined = torch.zeros_like(masks)
            for weight, neighbour in zip(affinity, self._neighbours(masks), strict=True):
                refined.addcmul_(weight, neighbour)
            masks = refined
        return masks

    def _refine_present(self, image: Tensor, masks: Tensor, present: Tensor) -> Tensor:
        """PAMR treats every mask by itself, so the absent ones, most of them, need no refining."""
        width = int(present.sum(dim=1).max())
        # each image's present classes come first, in order; a tail of absent ones evens the batch
        chosen = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        index = chosen[:, :, None, None].expand(-1, -1, *masks.shape[-2:])
        refined = torch.zeros_like(masks).scatter_(1, index, self(image, masks.gather(1, index)))
        return refined * present[:, :, None, None]

    def affinity(self, image: Tensor) -> Tensor:
        """The weights a_ij as (8·dilations)×B×1×h×w; they sum to one over the first dimension."""
        # σ does not change when all values are shifted by the pixel's own, and the small
        # differences keep the sum of squares exact
        total, squares = torch.zeros_like(image), torch.zeros_like(image)
        for neighbour in self._neighbours(image):
            difference = neighbour - image
            total.add_(difference)
            squares.addcmul_(difference, difference)
        count = 9 * len(self.dilations)
        variance = squares - total.square() / count
        scale = 1e-8 + 0.1 * (variance.clamp(min=0) / (count - 1)).sqrt()
        differences = (neighbour - image for neighbour in self._neighbours(image))
        likeness = [-(d.abs() / scale).mean(dim=1, keepdim=True) for d in differences]
        return torch.stack(likeness).softmax(dim=0)

    def _neighbours(self, maps: Tensor) -> Iterator[Tensor]:
        """The neighbour of every pixel of B×C×h×w maps, for each dilation and direction in turn."""
        height, width = maps.shape[-2:]
        reach = max(self.dilations)
        padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
        for dilation in self.dilations:
            for row, column in _NEIGHBOURS:
                top, left = reach + row * dilation, reach + column * dilation
                yield padded[..., top : top + height, left : left + width]

    def extra_repr(self) -> str:
        return f"num_iter={self.num_iter}, dilations={self.dilations}"


def published_stencils() -> dict[str, Tensor]:
    """The constant kernels that published snapshots carry for PAMR, which needs none here.

    `aff_x` (8×1×3×3) takes the centre minus a neighbour, `aff_m` (8×1×3×3) a neighbour, `aff_std`
    (9×1×3×3) each of the nine places; neighbours in row order.
    """
    places = torch.eye(9).view(9, 1, 3, 3)
    neighbours = places[[0, 1, 2, 3, 5, 6, 7, 8]]
    return {
        "aff_x.kernel": places[4] - neighbours,
        "aff_m.kernel": neighbours,
        "aff_std.kernel": places,
    }
