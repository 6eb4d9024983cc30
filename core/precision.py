"""How exactly float32 is computed: rounded to TF32 on a GPU, or lowered to 16 bits by autocast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from core.devices import cpu_lacks, speaks_for_machine
from utils.errors import UserError

T = TypeVar("T")

DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What TRAIN.AMP and TEST.AMP may say, and what convolutions are then computed in."""


def autocast(kind: str, device: torch.device) -> AbstractContextManager:
    """The context that lowers convolutions to what `kind` (off, bf16 or fp16) says."""
    return nullcontext() if kind == "off" else torch.autocast(device.type, DTYPES[kind])


def require_amp(key: str, kind: str, device: torch.device, *, trains: bool) -> None:
    """Try a small convolution: what PyTorch lacks, it says late, or only warns of.

    Args:
        key: of the configuration, that asks for it.
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
    """Refuse what takes a CPU many times as long as float32; warn where bf16 may.

    Raises:
        UserError: float16 on a CPU, which few CPUs have units for.
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
