"""What a training step leaves in a network, alone and wrapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


def what_is_left(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The loss, whose gradients are taken here, the gradients, buffers, and how chance goes on."""
    loss.backward()
    found = {"loss": loss.detach(), "chance": torch.rand(3)}
    found |= {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return found | {name: buffer.clone() for name, buffer in network.named_buffers()}


@contextmanager
def group_of_one(folder: Path) -> Iterator[None]:
    """A process group in which this process is alone."""
    store = torch.distributed.FileStore(str(folder / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def require_same_in_wrapper(found: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> None:
    """What a wrapper calls `module.NAME` is bit for bit the NAME of the network alone."""
    for name, value in plain.items():
        other = name if name in ("loss", "chance") else f"module.{name}"
        assert torch.equal(found[other], value), name
