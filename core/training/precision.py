"""The precision of training: float32, or convolutions in bfloat16 or float16 (TRAIN.AMP)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from core.precision import autocast, require_amp


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
        require_amp("TRAIN.AMP", kind, device, trains=True)

    def autocast(self) -> AbstractContextManager:
        """The context that a forward pass is to be computed in; losses belong outside."""
        return autocast(self.kind, self.device)

    @property
    def caution(self) -> str:
        """What fp16 may have to do with a loss that is not finite, to stand behind the step."""
        if self.kind != "fp16":
            return ""
        return " (TRAIN.AMP fp16 overflows beyond 65504, bf16 does not)"

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
