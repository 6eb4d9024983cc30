"""Layers, precision and initialisation that backbones and heads share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AT_ONCE = 2**23
"""Values that maps of full size have at a time on a GPU (see `images_at_once`)."""


class FixedStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that always uses its running statistics and never updates them.

    The affine parameters train unless their gradients are switched off; then nothing of the input's
    size is stored for the backward pass. State-dict entries are those of `nn.BatchNorm2d`.

    Shape:
        B×C×H×W to the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        constants = (self.running_mean, self.running_var, self.weight, self.bias)
        if self.weight.requires_grad or self.bias.requires_grad:
            return F.batch_norm(input, *constants, training=False, eps=self.eps)
        return _FixedNorm.apply(input, *constants, self.eps)


class _FixedNorm(torch.autograd.Function):
    """Batch normalisation by constants: linear, so that its gradient does not need the input.

    PyTorch's own keeps the input for gradients of the affine parameters, wanted or not; in a
    network of frozen ones these are half of all stored activations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(variance, weight)
        ctx.eps = eps
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        variance, weight = ctx.saved_tensors
        # gradient · weight / √(variance + eps), in one pass and rounded once: PyTorch would write
        # the product of a gradient of 16 bits and a scale of 32 in 32 bits first
        zeros = torch.zeros_like(variance)
        scaled = F.batch_norm(gradient, zeros, variance, weight, training=False, eps=ctx.eps)
        return scaled, None, None, None, None, None


class GlobalAveragePool(nn.Module):
    """The mean over space, whose gradient lies in memory as the input does.

    That of PyTorch's own is contiguous, to which the gradients of other readers of channels_last
    maps would be added several times more slowly.

    Shape:
        B×C×H×W to B×C×1×1.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):
            return x.mean(dim=(2, 3), keepdim=True)
        return x.permute(0, 2, 3, 1).mean(dim=(1, 2))[:, :, None, None]


def init_from_scratch(module: nn.Module) -> None:
    """Start the weight of every convolution in `module` Kaiming-normal.

    All else keeps PyTorch's start, as in the published code: a convolution's bias, uniform within
    ±1/√(values that feed an output); batch normalisation, weight 1 and bias 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)


def dtype_of_products(x: Tensor) -> torch.dtype:
    """The type that convolutions and products of `x` are computed in: autocast's, or its own."""
    kind = x.device.type
    lowered = x.dtype == torch.float32 and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if lowered else x.dtype


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 if it is of lower precision, as autocast's convolutions give it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def images_at_once(maps: Tensor, size: tuple[int, int] | torch.Size) -> int:
    """How many images' B×C×h×w maps to bring to `size` = (H, W) and work on at a time.

    One on a CPU, whose caches hold it. On a GPU, to which few large operations are better than
    many small ones, as many as 32 MiB of float32 hold (`AT_ONCE`), and one at least.
    """
    if maps.device.type == "cpu":
        return 1
    return max(1, AT_ONCE // (maps.shape[1] * size[0] * size[1]))


def resize_corners(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize B×C×h×w maps to `size` = (H, W), bilinear with aligned corners ("bilinear-ac")."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
