"""Activation checkpointing: parts of a network that are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class GradCheckpointing(nn.Module):
    """A module that can compute parts of itself again in the backward pass.

    After `set_grad_checkpointing`, only the inputs of a part that `run` runs are stored. Its
    activations are computed again, with the same dropout, when their gradients are due.
    """

    grad_checkpointing = False

    def set_grad_checkpointing(self) -> None:
        """Compute parts again from now on."""
        self.grad_checkpointing = True

    def run(self, part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`part(*inputs)`.

        Args:
            part: a module, or a function that holds no batch normalisation.
        """
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return part(*inputs)
        contexts = partial(_contexts, part)
        return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts)

    def run_all(self, parts: Iterable[nn.Module], x: Tensor) -> Tensor:
        """Pass `x` through one module after the other, each a part of its own."""
        for part in parts:
            x = self.run(part, x)
        return x


def _contexts(part: Callable[..., Tensor]) -> tuple[AbstractContextManager, AbstractContextManager]:
    """What surrounds the first computation of a part, and what surrounds the second."""
    return nullcontext(), _statistics_kept(part)


@contextmanager
def _statistics_kept(part: Callable[..., Tensor]) -> Iterator[None]:
    """Let batch normalisation update copies of its running statistics.

    The first computation has updated them; a second update would count the batch twice.
    """
    modules = part.modules() if isinstance(part, nn.Module) else ()
    norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, name, value) for norm in norms for name, value in norm.named_buffers()]
    try:
        for norm, name, value in kept:
            setattr(norm, name, value.clone())
        yield
    finally:
        for norm, name, value in kept:
            setattr(norm, name, value)
