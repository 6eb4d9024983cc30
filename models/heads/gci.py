"""Global cue injection: shallow features steered by what is in the image."""

from __future__ import annotations

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
        # the maximum over space; amax would spread the gradient over ties, in passes of full size
        cue = F.adaptive_max_pool2d(self.fc_deep(deep), 1)
        gamma, beta = cue.chunk(2, dim=1)
        return self.fc_cls(F.relu(self.fc_skip(shallow) * (gamma + 1) + beta, inplace=True))
