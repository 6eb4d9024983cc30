"""The network as inference runs it: in which precision, and compiled or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.compiling import require_compiler
from core.config import InferenceConfig
from core.precision import autocast, require_amp, require_speed


def accelerate(model: nn.Module, test: InferenceConfig, device: torch.device) -> nn.Module:
    """The network under TEST.AMP and TEST.COMPILE; with both off, `model` as it is.

    Convolutions are lowered to 16 bits, masks and scores, and what the network computes them with,
    are not; on a GPU channels then lie innermost, as its matrix units want them. `model` itself is
    changed.

    Args:
        model: images (B×3×H×W) → raw class scores (B×(C−1)) and masks (B×C×H×W), on `device`.
        test: the configuration's TEST section.
        device: where the model is.

    Raises:
        UserError: PyTorch cannot compute so on this device, or only slowly, or cannot compile.
    """
    if test.COMPILE:
        require_compiler("TEST.COMPILE", device)
        model.compile()
    if test.AMP == "off":
        return model
    require_speed("TEST.AMP", test.AMP, device)
    require_amp("TEST.AMP", test.AMP, device, trains=False)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    return _Lowered(model, test.AMP, device)


class _Lowered(nn.Module):
    def __init__(self, network: nn.Module, kind: str, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.device = device

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.kind, self.device):
            return self.network(images)
