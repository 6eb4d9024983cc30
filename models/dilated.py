"""Dilated convolutions, which PyTorch computes slowly in 16 bits on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import dtype_of_products

FROM_DILATION = 12
"""From this dilation on, products are faster in 16 bits on a CPU."""
FROM_INPUTS = 1024
"""With gradients, they are for dilated layers of so many inputs too."""


class DilatedConv2d(nn.Conv2d):
    """A dilated 3×3 convolution without bias, with as much padding as dilation.

    Where 16 bits flow on a CPU, it is computed as matrix products (see `shifted_products`) if these
    are faster. State-dict entries are those of `nn.Conv2d`.

    Shape:
        B×inputs×H×W to B×outputs×H×W.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        [dilation] = set(self.dilation)
        if max(x.shape[-2:]) <= dilation:
            # on so small a map all taps but the centre's see nothing but padding
            return F.conv2d(x, self.weight[:, :, 1:2, 1:2])
        wide = x.requires_grad and self.in_channels >= FROM_INPUTS
        if x.device.type == "cpu" and (wide or dilation >= FROM_DILATION):
            dtype = dtype_of_products(x)
            if dtype.itemsize == 2:
                return shifted_products(x.to(dtype), self.weight.to(dtype), dilation)
        return super().forward(x)


def shifted_products(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A dilated 3×3 convolution with as much padding as dilation, as matrix products.

    The taps of one row of the kernel are one product, Y = X·[W₋₁ W₀ W₁], over those rows of the map
    that they see; the three parts of Y are added shifted by the taps' places, in float32. Taps that
    see nothing but padding are left out.

    Args:
        x: B×C×H×W.
        weight: O×C×3×3, of the same type.
        dilation: between taps, in pixels.

    Returns:
        B×O×H×W of that type, channels_last.
    """
    outputs, (height, width) = len(weight), x.shape[-2:]
    shifts = (-dilation, 0, dilation)
    columns = [index for index, shift in enumerate(shifts) if abs(shift) < width]
    rows = [index for index, shift in enumerate(shifts) if abs(shift) < height]
    seen = weight[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # of a row of the kernel, the weights of its taps below each other
    matrices = seen.permute(2, 3, 0, 1).flatten(1, 2).unbind()
    maps = []
    # image by image, whose rows of pixels are one piece of memory
    for image in x.permute(0, 2, 3, 1).unbind():
        total = torch.zeros(height, width, outputs, device=x.device)
        for row, matrix in zip(rows, matrices, strict=True):
            target_rows, source_rows = _overlap(shifts[row], height)
            parts = F.linear(image[source_rows], matrix).split(outputs, dim=-1)
            for column, part in zip(columns, parts, strict=True):
                target_columns, source_columns = _overlap(shifts[column], width)
                total[target_rows, target_columns] += part[:, source_columns]
        maps.append(total.to(x.dtype))
    return torch.stack(maps).permute(0, 3, 1, 2)


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """Where a tap at `shift` sees the map: the pixels that it adds to, and those that it reads."""
    return (
        slice(max(0, -shift), length - max(0, shift)),
        slice(max(0, shift), length + min(0, shift)),
    )
