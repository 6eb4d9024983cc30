"""The network as inference runs it: in which precision, and compiled or not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.compiling import require_compiler
from core.config import InferenceConfig
from utils.errors import UserError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
        UserError: PyTorch cannot compute so on this device, or cannot compile.
    """
    if test.COMPILE:
        require_compiler("TEST.COMPILE", device)
        model.compile()
    if test.AMP == "off":
        return model
    lowered = _Lowered(model, _TYPES[test.AMP], device)
    _require_support(lowered, test.AMP)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    return lowered


class _Lowered(nn.Module):
    def __init__(self, network: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.device = device

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            return self.network(images)


def _require_support(lowered: _Lowered, name: str) -> None:
    """Try a small convolution: what PyTorch lacks, it says late, or only warns of."""
    try:
        weight = torch.ones(4, 3, 3, 3, device=lowered.device)
        with lowered.autocast():
            output = F.conv2d(torch.ones(1, 3, 8, 8, device=lowered.device), weight)
        reason = "" if output.dtype == lowered.dtype else f"it computes in {output.dtype}"
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    if reason:
        raise UserError(
            f"TEST.AMP {name}: PyTorch {torch.__version__} cannot compute so on "
            f"{lowered.device.type} ({reason}); choose another of off, {', '.join(_TYPES)}"
        )
