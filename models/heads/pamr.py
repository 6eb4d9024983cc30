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

    All masks of an image share its weights, so that a pixel's masks are a row, and an iteration
    adds up weighted rows: no copy of the masks for each of the neighbours is held.

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

    def forward(self, image: Tensor, masks: Tensor) -> Tensor:
        weights = self.affinity(image).flatten(0, 2)
        neighbours = self._neighbour_rows(image)
        batch, channels, height, width = masks.shape
        rows = masks.permute(0, 2, 3, 1).reshape(-1, channels)
        for _ in range(self.num_iter):
            rows = _weighted_rows(rows, neighbours, weights)
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def affinity(self, image: Tensor) -> Tensor:
        """The weights a_ij as B×h×w×(8·dilations); they sum to one over the last dimension."""
        # a CPU's caches hold an image; to a GPU all together are fewer operations to start
        parts = image.split(1) if image.device.type == "cpu" else (image,)
        return torch.cat([self._affinity(part) for part in parts])

    def _affinity(self, image: Tensor) -> Tensor:
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
        # a mean over the channels too, and a factor where a division would take longer
        factor = -1 / (image.shape[1] * scale)
        differences = (neighbour - image for neighbour in self._neighbours(image))
        likeness = torch.stack([(d.abs_().mul_(factor)).sum(dim=1) for d in differences])
        # rows are what softmax and the sums over neighbours are fast on
        return likeness.permute(1, 2, 3, 0).contiguous().softmax(dim=-1)

    def _neighbours(self, maps: Tensor) -> Iterator[Tensor]:
        """The neighbour of every pixel of B×C×h×w maps, for each dilation and direction in turn."""
        height, width = maps.shape[-2:]
        reach = max(self.dilations)
        padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
        for dilation in self.dilations:
            for row, column in _NEIGHBOURS:
                top, left = reach + row * dilation, reach + column * dilation
                yield padded[..., top : top + height, left : left + width]

    def _neighbour_rows(self, image: Tensor) -> Tensor:
        """The neighbours' numbers, (B·h·w)×(8·dilations), with all pixels of a batch numbered."""
        batch, _, height, width = image.shape
        # those of _NEIGHBOURS, made here: a copy of them would wait for a GPU
        places = torch.arange(9, dtype=torch.int32, device=image.device)
        places = torch.cat([places[:4], places[5:]])
        steps = torch.stack([places // 3 - 1, places % 3 - 1], dim=1)
        steps = torch.cat([dilation * steps for dilation in self.dilations])
        rows, columns = (
            torch.arange(size, dtype=torch.int32, device=image.device) for size in (height, width)
        )
        # beyond an edge is the edge
        rows = (rows[:, None] + steps[:, 0]).clamp(0, height - 1)
        columns = (columns[:, None] + steps[:, 1]).clamp(0, width - 1)
        first = height * width * torch.arange(batch, dtype=torch.int32, device=image.device)
        within = rows[:, None] * width + columns
        return (first[:, None, None, None] + within).flatten(0, 2)

    def extra_repr(self) -> str:
        return f"num_iter={self.num_iter}, dilations={self.dilations}"


def _weighted_rows(rows: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
    """Σ_j a_ij·row_j for every i.

    Args:
        rows: P×C, a row for each pixel.
        neighbours: P×N, the numbers of a pixel's neighbours.
        weights: P×N, the a_ij.

    Returns:
        P×C.
    """
    if rows.device.type == "mps":  # for which PyTorch below 2.10 has no embedding_bag
        return _weighted_rows_in_turn(rows, neighbours, weights)
    return F.embedding_bag(neighbours, rows, per_sample_weights=weights, mode="sum")


def _weighted_rows_in_turn(rows: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
    """What `_weighted_rows` gives, neighbour by neighbour."""
    total = torch.zeros_like(rows)
    for neighbour, weight in zip(neighbours.T, weights.T, strict=True):
        total.addcmul_(weight[:, None], rows[neighbour])
    return total


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
