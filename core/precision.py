"""The precision of convolutions: float32, TF32 or 16 bits by autocast, and compiled networks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import Config, InferenceConfig
from core.config_reading import AUTO
from core.devices import cpu_lacks, multiplies_bf16, speaks_for_machine
from models.dilated import DilatedConv2d
from utils.errors import UserError

T = TypeVar("T")

DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What TRAIN.AMP and TEST.AMP may say but for auto, and what convolutions are then computed in."""


def settled_amp(kind: str, devices: Sequence[torch.device]) -> str:
    """TRAIN.AMP or TEST.AMP with auto settled: bf16 if all devices multiply it natively, or off."""
    if kind != AUTO:
        return kind
    return "bf16" if all(multiplies_bf16(device) for device in devices) else "off"


def settle_training(
    config: Config, kept: str | None, devices: Sequence[torch.device]
) -> tuple[Config, str]:
    """The configuration with TRAIN.AMP auto settled, and a line that says so; "" if it was given.

    Args:
        kept: what an earlier part of the run settled on, and all of it keeps; None if there is
            none.
        devices: those that train.

    Raises:
        UserError: the run was begun in bf16, and this machine cannot multiply it natively.
    """
    if config.TRAIN.AMP != AUTO:
        return config, ""
    here = settled_amp(AUTO, devices)
    kind = here if kept in (None, AUTO) else kept
    if kind == "bf16" != here:
        raise UserError(
            f"TRAIN.AMP auto: the run began in bf16, for which this {devices[0].type.upper()} has "
            "no units; go on where it began, or give --set TRAIN.AMP bf16 (slow) or off"
        )
    again = "as before" if kept == kind else _reason(kind, devices)
    config = replace(config, TRAIN=replace(config.TRAIN, AMP=kind))
    return config, f"TRAIN.AMP auto: {kind}, {again}"


def settle_inference(config: Config, device: torch.device) -> tuple[Config, str]:
    """The configuration with TEST.AMP auto settled, and a line that says so; "" if it was given."""
    if config.TEST.AMP != AUTO:
        return config, ""
    kind = settled_amp(AUTO, [device])
    config = replace(config, TEST=replace(config.TEST, AMP=kind))
    return config, f"TEST.AMP auto: {kind}, {_reason(kind, [device])}"


def _reason(kind: str, devices: Sequence[torch.device]) -> str:
    words = "multiplies bf16 natively" if kind == "bf16" else "has no units for bf16"
    return f"since the {devices[0].type.upper()} {words}"


def autocast(kind: str, device: torch.device) -> AbstractContextManager:
    """The context that lowers convolutions to what `kind` (off, bf16 or fp16) says."""
    return nullcontext() if kind == "off" else torch.autocast(device.type, DTYPES[kind])


class AutocastNetwork(nn.Module):
    """A network whose convolutions are lowered to 16 bits; losses are computed outside of it.

    It belongs inside of DataParallel, whose threads do not take over what autocast lowers to.

    Args:
        network: any; it gets what the wrapper is called with.
        kind: off, bf16 or fp16.
        device: where the network is.
        eval_kind: the same for passes in eval mode; `kind` if None.
    """

    def __init__(
        self, network: nn.Module, kind: str, device: torch.device, eval_kind: str | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.device = device
        self.eval_kind = kind if eval_kind is None else eval_kind

    def forward(self, *inputs: Any) -> Any:
        with autocast(self.kind if self.training else self.eval_kind, self.device):
            return self.network(*inputs)


def caution(key: str, kind: str) -> str:
    """A hint for errors about losses that are not finite: fp16 may be the cause."""
    return f" ({key} fp16 overflows beyond 65504, bf16 does not)" if kind == "fp16" else ""


class Precision:
    """How backward passes and steps of training are computed.

    Weights, their gradients and their updates are float32. With fp16, gradients that float16 would
    round to zero are scaled up by a factor S, ∇w = (1/S)·∂(S·loss)/∂w; a step whose scaled
    gradients overflow is left out, and S halved.

    Args:
        kind: off, bf16 or fp16.
        device: where training runs.

    Raises:
        UserError: PyTorch cannot train in this precision on this device.
    """

    def __init__(self, kind: str, device: torch.device) -> None:
        self.kind = kind
        self.scaler = torch.amp.GradScaler(device.type) if kind == "fp16" else None
        require_amp("TRAIN.AMP", kind, device, trains=True)

    @property
    def caution(self) -> str:
        """A hint for errors about losses that are not finite: fp16 may be the cause."""
        return caution("TRAIN.AMP", self.kind)

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
        """Load the state of an earlier run; that of another precision is ignored."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)


def accelerate(model: nn.Module, test: InferenceConfig, device: torch.device) -> nn.Module:
    """The network under TEST.AMP and TEST.COMPILE; with both off, `model` as it is.

    Only convolutions run in 16 bits, and hold their weights so; masks and scores are computed in
    float32. On a GPU, `model` is converted to channels_last too, which its matrix units want.
    `model` itself is changed, and is for inference alone.

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
    amp = settled_amp(test.AMP, [device])
    if amp == "off":
        return model
    require_speed("TEST.AMP", amp, device)
    require_amp("TEST.AMP", amp, device, trains=False)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    _lower_weights(model, DTYPES[amp])
    return AutocastNetwork(model, amp, device)


def _lower_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold weights as autocast would cast them in every pass, to the same bits."""
    for module in model.modules():
        # others, as those of timm that standardise their weights, may want them in float32
        if type(module) in (nn.Conv2d, nn.Linear, DilatedConv2d):
            module.to(dtype)


def lowers_convolutions(amp: str, rounds: bool, devices: Sequence[torch.device]) -> bool:
    """Whether convolutions run in what matrix units take: 16 bits, or TF32 on GPUs that have it.

    Args:
        amp: off, bf16 or fp16.
        rounds: whether TF32 is allowed.
        devices: those that compute.
    """
    # TF32 came with bf16
    return amp != "off" or (rounds and all(multiplies_bf16(device) for device in devices))


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions and matrix products round float32 to TF32's ten bits in the body, or not.

    GPUs that cannot, and the CPU, compute as ever. The switches are those of the whole process, its
    threads included, and are as they were after the body; two threads that use this at once may
    leave them changed. It also decorates functions.
    """
    conv = _readable(lambda: torch.backends.cudnn.allow_tf32)
    matmul = _readable(torch.get_float32_matmul_precision)
    new, cpu = _new_switches()
    values = [operation.fp32_precision for operation in (*new, *cpu)]
    try:
        if conv is not None:
            torch.backends.cudnn.allow_tf32 = allowed
        if matmul is not None:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        # the old ones leave room for what was said of all operations together
        for operation in new:
            operation.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        if conv is not None:
            torch.backends.cudnn.allow_tf32 = conv
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        # last, for the old ones change them too
        for operation, value in zip((*new, *cpu), values, strict=True):
            operation.fp32_precision = value


def _readable(switch: Callable[[], T]) -> T | None:
    """What an old switch says; None where a new one contradicts it, and reading it is an error."""
    try:
        return switch()
    except RuntimeError:
        return None


def _new_switches() -> tuple[list[Any], list[Any]]:
    """What PyTorch from 2.9 on has a `fp32_precision` for: a GPU's operations; the CPU's products.

    The latter are changed only by putting back the old switch.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        return [], []
    return [cudnn.conv, cudnn.rnn, matmul], [torch.backends.mkldnn.matmul]


def require_amp(key: str, kind: str, device: torch.device, *, trains: bool) -> None:
    """Try a small convolution: PyTorch reports late, or only warns of, what it cannot do.

    Args:
        key: the configuration key that asks for it.
        kind: off, bf16 or fp16.
        device: where the network is to run.
        trains: whether gradients are wanted too.

    Raises:
        UserError: PyTorch cannot compute so on this device.
    """
    if kind == "off":
        return
    try:
        weight = torch.ones(4, 3, 3, 3, device=device, requires_grad=trains)
        with autocast(kind, device):
            output = F.conv2d(torch.ones(1, 3, 8, 8, device=device), weight)
        if trains:
            output.float().sum().backward()
        reason = "" if output.dtype == DTYPES[kind] else f"it computes in {output.dtype}"
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    scales = trains and kind == "fp16"
    if not reason and scales and not torch.amp.GradScaler(device.type).is_enabled():
        reason = "it cannot scale gradients"
    if reason:
        raise UserError(
            f"{key} {kind}: PyTorch {torch.__version__} cannot compute so on {device.type} "
            f"({reason}); choose another of {', '.join(DTYPES)}"
        )


def require_speed(key: str, kind: str, device: torch.device) -> None:
    """Refuse fp16 on a CPU, which is many times slower than float32; warn if bf16 may be.

    Raises:
        UserError: fp16 on a CPU.
    """
    if device.type != "cpu":
        return
    if kind == "fp16":
        raise UserError(
            f"{key} fp16 takes a CPU ten times as long as float32, or more; set {key} bf16, for "
            "CPUs that have units for it, or off"
        )
    if kind == "bf16" and cpu_lacks("bf16") and speaks_for_machine():
        print(
            f"warning: {key} bf16: this CPU has no units for bf16, and takes several times as long "
            f"as with {key} off",
            file=sys.stderr,
        )


def require_compiler(key: str, device: torch.device) -> None:
    """Compile something small: what is missing would show only in the first forward pass.

    Args:
        key: the configuration key that asks for it.

    Raises:
        UserError: PyTorch cannot compile.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=device))
    except Exception as error:  # of many kinds, none of them documented
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{key}: PyTorch {torch.__version__} cannot compile for {device.type} ({reason}); "
            "install a C++ compiler (g++) and Python's headers, or leave the key out"
        ) from error
