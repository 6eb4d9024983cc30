"""Atrous spatial pyramid pooling (Chen et al., "DeepLabv3", 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dilated import DilatedConv2d
from models.layers import GlobalAveragePool

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
            self.atrous_conv = DilatedConv2d(inputs, outputs, dilation)
        self.bn = norm_layer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)), inplace=True)


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
            GlobalAveragePool(),
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
