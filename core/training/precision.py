"""The precision of training: float32, or convolutions in bfloat16 or float16 (TRAIN.AMP)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import UserError

_TYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How forward passes, backward passes and steps of training are computed.

    With bf16 and fp16, autocast lowers convolutions; weights, their gradients and their updates
    stay float32. Gradients that float16 would round to zero are scaled up by a factor S,
    ∇w = (1/S)·∂(S·loss)/∂w; a step whose scaled gradients overflow is left out, and S halved.

    Args:
        kind: off, bf16 or fp16.
        device: where training runs.

    Raises:
        UserError: PyTorch cannot train in this precision on this device.
    """

    def __init__(self, kind: str, device: torch.device) -> None:
        self.kind = kind
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if kind == "fp16" else None
        if kind != "off":
            self._require_support()

    def autocast(self) -> AbstractContextManager:
        """The context that a forward pass is to be computed in; losses belong outside."""
        if self.kind == "off":
            return nullcontext()
        return torch.autocast(self.device.type, _TYPES[self.kind])

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take the gradients of `loss`, let the optimizer step, and free the gradients."""
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            loss.backward()
            optimizer.step()
        # at once, not before the next step: its forward pass needs the memory
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on needs: the factor S and when to raise it; else nothing."""
        return self.scaler.state_dict() if self.scaler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the state of an earlier run; that of another precision says nothing."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)

    def _require_support(self) -> None:
        """Try a small convolution: what PyTorch lacks, it says late, or only warns of."""
        try:
            weight = torch.ones(4, 3, 3, 3, device=self.device, requires_grad=True)
            with self.autocast():
                output = F.conv2d(torch.ones(1, 3, 8, 8, device=self.device), weight)
            output.float().sum().backward()
            reason = "" if output.dtype == _TYPES[self.kind] else f"it computes in {output.dtype}"
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        if not reason and self.scaler and not self.scaler.is_enabled():
            reason = "it cannot scale gradients"
        if reason:
            raise UserError(
                f"TRAIN.AMP {self.kind}: PyTorch {torch.__version__} cannot train so on "
                f"{self.device.type} ({reason}); choose another of {', '.join(_TYPES)}"
            )


class InPrecision(nn.Module):
    """A network whose training passes are computed in a precision, its others in float32.

    It belongs inside of DataParallel, whose threads do not take over what autocast lowers to.
    """

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision

    def forward(self, *inputs: Any) -> Any:
        if not self.training:
            return self.network(*inputs)
        with self.precision.autocast():
            return self.network(*inputs)
