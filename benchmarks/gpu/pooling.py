"""The section `pooling`: operations whose kernels suit our shapes badly, and what else there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.check import Check
from models.heads.gci import first_maximum

Shape = tuple[int, int, int, int]

MAXIMA: Mapping[str, Callable[[Tensor], Tensor]] = {
    "adaptive_max_pool2d (the project's on the CPU)": lambda x: F.adaptive_max_pool2d(x, 1),
    "max (the project's)": first_maximum,
    "amax": lambda x: x.amax(dim=(2, 3), keepdim=True),
}
SHAPES: tuple[tuple[str, Shape], ...] = (
    ("training, 16x512x81x81", (16, 512, 81, 81)),
    ("inference, 8x512x256x256", (8, 512, 256, 256)),
)
TINY: Shape = (2, 8, 9, 9)
FROZEN: Shape = (16, 512, 41, 41)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {
    "channels first": torch.contiguous_format,
    "channels last": torch.channels_last,
}


def pooling(check: Check) -> None:
    """The global maximum, forward and backward, and the backward pass of a frozen BatchNorm."""
    shapes = [("tiny", TINY)] if check.tiny else SHAPES
    for name, shape in shapes:
        with check.guarded(f"global maximum, {name}"):
            _time_maxima(check, name, shape)
    with check.guarded("backward of the global maximum"):
        _time_backward(check, shapes[0][1])
    with check.guarded("frozen BatchNorm backward"):
        for dtype in DTYPES:
            _time_frozen_norm(check, TINY if check.tiny else FROZEN, dtype)


@torch.no_grad()
def _time_maxima(check: Check, name: str, shape: Shape) -> None:
    for layout, memory_format in LAYOUTS.items():
        for dtype_name, dtype in DTYPES.items():
            x = torch.rand(shape, device=check.device, dtype=dtype)
            x = x.contiguous(memory_format=memory_format)
            calls = {way: partial(maximum, x) for way, maximum in MAXIMA.items()}
            what = f"global maximum, {name}, {layout}, {dtype_name}"
            check.row(what, _times(check, calls, 5, digits=2))


def _time_backward(check: Check, shape: Shape) -> None:
    x = torch.rand(shape, device=check.device, requires_grad=True)

    def both(maximum: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(maximum(x).sum(), x)

    calls = {way: partial(both, maximum) for way, maximum in MAXIMA.items()}
    check.row("global maximum, forward and backward", _times(check, calls, 5, digits=2))


def _time_frozen_norm(check: Check, shape: Shape, dtype: str) -> None:
    channels, device = shape[1], check.device
    gradient = torch.rand(shape, device=device).to(DTYPES[dtype], memory_format=torch.channels_last)
    scale, variance = (torch.rand(channels, device=device) for _ in range(2))
    zeros = torch.zeros(channels, device=device)
    calls = {
        "product and rounding": lambda: (gradient * scale[:, None, None]).to(gradient.dtype),
        "batch_norm of the gradient (the project's)": lambda: F.batch_norm(
            gradient, zeros, variance, scale, training=False
        ),
    }
    size = "x".join(map(str, shape))
    what = f"frozen BatchNorm's backward, {size} {dtype}"
    check.row(what, _times(check, calls, 15, digits=3))


def _times(
    check: Check, calls: Mapping[str, Callable[[], object]], repetitions: int, digits: int
) -> str:
    """Every way with its milliseconds."""
    times = {way: check.milliseconds(call, repetitions) for way, call in calls.items()}
    return ", ".join(f"{way} {time:.{digits}f} ms" for way, time in times.items())
