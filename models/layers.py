"""Layers and initialisation that backbones and heads share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FixedStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that always uses its running statistics and never updates them.

    The affine parameters train unless their gradients are switched off. State-dict entries are
    those of `nn.BatchNorm2d`.

    Shape:
        B×C×H×W to the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )


def init_from_scratch(module: nn.Module) -> None:
    """Start every convolution in `module` Kaiming-normal, its bias at zero.

    Batch normalisation keeps PyTorch's start: weight 1, bias 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def resize_corners(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize B×C×h×w maps to `size` = (H, W), bilinear with aligned corners ("bilinear-ac")."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
