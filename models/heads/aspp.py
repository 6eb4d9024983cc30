"""Atrous spatial pyramid pooling (Chen et al., "DeepLabv3", 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import dtype_of_products

DILATIONS = (12, 24, 36)


class AtrousBranch(nn.Module):
    """A 1×1 convolution, or a 3×3 one of the given dilation; then BN and ReLU."""

    def __init__(
        self,
        norm_layer: type[nn.BatchNorm2d],
        inputs: int,
        outputs: int,
        dilation: int | None = None,
    ) -> None:
        super().__init__()
        if dilation is None:
            self.atrous_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        else:
            self.atrous_conv = nn.Conv2d(
                inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
            )
        self.bn = norm_layer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.atrous_conv
        if max(x.shape[-2:]) <= max(conv.padding):
            # on so small a map all taps but the centre's see nothing but padding
            centre = conv.kernel_size[0] // 2
            maps = F.conv2d(x, conv.weight[:, :, centre : centre + 1, centre : centre + 1])
        elif conv.dilation[0] > 1 and x.device.type == "cpu" and dtype_of_products(x).itemsize == 2:
            # in 16 bits, PyTorch's dilated convolutions on the CPU are 6 to 25 times slower
            dtype = dtype_of_products(x)
            maps = shifted_products(x.to(dtype), conv.weight.to(dtype), conv.dilation[0])
        else:
            maps = conv(x)
        return F.relu(self.bn(maps), inplace=True)


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
    seen = weight[..., columns[0] : columns[-1] + 1].permute(2, 3, 0, 1)
    products = {row: seen[row].flatten(0, 1) for row in rows}
    maps = []
    # image by image, whose rows of pixels are one piece of memory
    for image in x.permute(0, 2, 3, 1).unbind():
        total = torch.zeros(height, width, outputs, device=x.device)
        for row, matrix in products.items():
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


class ASPP(nn.Module):
    """Five views of the deep features, from one pixel to the whole image, joined and mixed.

    Args:
        norm_layer: the class of its batch normalisation layers.
        inputs: channels of the features.
        outputs: channels of each branch and of the result.

    Shape:
        B×inputs×H×W to B×outputs×H×W.
    """

    def __init__(self, norm_layer: type[nn.BatchNorm2d], inputs: int, outputs: int = 256) -> None:
        super().__init__()
        self.aspp1 = AtrousBranch(norm_layer, inputs, outputs)
        self.aspp2 = AtrousBranch(norm_layer, inputs, outputs, DILATIONS[0])
        self.aspp3 = AtrousBranch(norm_layer, inputs, outputs, DILATIONS[1])
        self.aspp4 = AtrousBranch(norm_layer, inputs, outputs, DILATIONS[2])
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            norm_layer(outputs),
            nn.ReLU(inplace=True),
        )
        self.conv1 = nn.Conv2d(5 * outputs, outputs, 1, bias=False)
        self.bn1 = norm_layer(outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        branches = [branch(x) for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)]
        branches.append(self.global_avg_pool(x).expand_as(branches[0]))
        joined = torch.cat(branches, dim=1)
        return self.dropout(F.relu(self.bn1(self.conv1(joined)), inplace=True))
