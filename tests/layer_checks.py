"""What activations and weights tell of the layers: where dropout acts, how weights start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def recorded(*modules: nn.Module) -> Iterator[list[tuple[list[Tensor], list[Tensor]]]]:
    """For each module, the inputs and the outputs of its calls inside the block."""
    records: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in modules]

    def remember(inputs: list[Tensor], outputs: list[Tensor]):
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs.append(args[0].detach().clone())
            outputs.append(output.detach().clone())

        return hook

    handles = [
        module.register_forward_hook(remember(*record))
        for module, record in zip(modules, records, strict=True)
    ]
    yield records
    for handle in handles:
        handle.remove()


def check_dropout(before: Tensor, after: Tensor, p: float, whole_channels: bool) -> None:
    """`after` is the non-negative B×C×h×w `before` with a share of about p dropped.

    Dropped are whole channels or single elements; what is kept is divided by 1 − p.
    """
    kept = after != 0
    torch.testing.assert_close(after, torch.where(kept, before / (1 - p), 0))
    positive = before > 0
    channels = positive.sum(dim=(2, 3)) > 1
    kept_in_channel = (kept & positive).sum(dim=(2, 3))
    unbroken = (kept_in_channel == 0) | (kept_in_channel == positive.sum(dim=(2, 3)))
    if whole_channels:
        assert unbroken.all()
        draws = (kept_in_channel > 0)[channels]
    else:
        assert not unbroken[channels].all()
        draws = kept[positive]
    # six standard deviations of the share
    bound = 6 * math.sqrt(p * (1 - p) / draws.numel())
    assert bound < 0.1, "too few draws to tell one p from another"
    assert abs(draws.double().mean().item() - (1 - p)) < bound


def dropouts(network: nn.Module) -> dict[str, tuple[type[nn.Module], float]]:
    """Name → (kind, p) of every dropout in the network."""
    return {
        name: (type(module), module.p)
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.dropout._DropoutNd)
    }


def check_kaiming_normal(weight: Tensor) -> None:
    """Zero mean, a variance of 2/(values that feed an output), a normal's share near the mean."""
    values = weight.detach().double().flatten()
    count, expected = values.numel(), math.sqrt(2 / weight[0].numel())
    # five standard deviations of each estimate
    assert abs(values.mean().item()) < 5 * expected / math.sqrt(count)
    assert abs(values.std().item() / expected - 1) < 5 / math.sqrt(2 * count)
    near = (values.abs() < expected).double().mean().item()
    assert abs(near - math.erf(math.sqrt(0.5))) < 5 * math.sqrt(0.683 * 0.317 / count)


def check_default_bias(layer: nn.Conv2d) -> None:
    """Uniform within ±1/√(values that feed an output), as nn.Conv2d starts its bias."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    values = layer.bias.detach().double()
    # five standard deviations of each estimate
    assert values.abs().max().item() <= bound
    assert abs(values.mean().item()) < 5 * bound / math.sqrt(3 * len(values))
    assert abs(values.square().mean().item() * 3 / bound**2 - 1) < 5 * math.sqrt(0.8 / len(values))
    assert values.any()
