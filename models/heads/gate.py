"""The stochastic gate: in training, it randomly replaces shallow features by deep ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticGate(nn.Module):
    """Mix deep and shallow features; element by element at random in training.

    Training draws m ∈ {0, 1} with P(m = 1) = 1 − ψ for each element and gives
    m·(deep − ψ·shallow)/(1 − ψ) + (1 − m)·shallow, whose expectation is deep. Evaluation gives
    (1 − ψ)·deep + ψ·shallow, as published: that is not the expectation.

    Args:
        psi: ψ, in [0, 1).

    Shape:
        two tensors of one shape to that shape.
    """

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = psi

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        if not self.training:
            return (1 - self.psi) * deep + self.psi * shallow
        keep_deep = torch.rand_like(deep) >= self.psi
        return torch.where(keep_deep, (deep - self.psi * shallow) / (1 - self.psi), shallow)

    def extra_repr(self) -> str:
        return f"psi={self.psi}"
