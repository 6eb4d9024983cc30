"""Global cue injection: shallow features steered by what is in the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalCueInjection(nn.Module):
    """AdaIN-like modulation of normalised shallow features by the maximum of the deep ones.

    With s the normalised shallow features and (γ, β) the two halves of the spatial maximum of the
    transformed deep features, the output is fc_cls(ReLU(s·(γ + 1) + β)).

    Args:
        shallow: channels of the shallow features.
        deep: channels of the deep features.
        outputs: channels of the result.

    Shape:
        shallow B×shallow×H×W and deep B×deep×h×w to B×outputs×H×W.
    """

    def __init__(self, shallow: int = 256, deep: int = 256, outputs: int = 256) -> None:
        super().__init__()
        self.fc_deep = nn.Sequential(
            nn.Conv2d(deep, 2 * outputs, 1, bias=False),
            nn.BatchNorm2d(2 * outputs),
            nn.ReLU(inplace=True),
        )
        self.fc_skip = nn.Sequential(
            nn.Conv2d(shallow, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=False)
        )
        self.fc_cls = nn.Sequential(
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        gamma, beta = spatial_maximum(self.fc_deep(deep)).chunk(2, dim=1)
        return self.fc_cls(F.relu(self.fc_skip(shallow) * (gamma + 1) + beta, inplace=True))


def spatial_maximum(x: Tensor) -> Tensor:
    """B×C×H×W to each map's maximum, B×C×1×1.

    Of equal values, the first one gets the gradient, as in the published code.
    """
    if x.device.type == "cpu":
        return F.adaptive_max_pool2d(x, 1)
    # whose kernel for GPUs scans a map with a single thread
    return first_maximum(x)


def first_maximum(x: Tensor) -> Tensor:
    """`spatial_maximum` as a reduction, whose gradient lies in memory as `x` does.

    amax would spread the gradient over equal values, in passes of full size.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).flatten(1, 2).max(dim=1).values[:, :, None, None]
    return x.flatten(2).max(dim=2).values[:, :, None, None]
