"""The memory of tensors, followed from operation to operation, with or without allocating it."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512
"""Bytes that CUDA's allocator rounds a tensor up to."""


class MemoryAccount(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside the context and are still alive.

    Views count once, with the tensor they look at. Inside `FakeTensorMode`, whose tensors have
    shapes but no values, nothing is allocated, and questions for a value are answered here.

    Args:
        whole_number: the answer where a whole number is asked for.
        new_only: leave out tensors that were there before, of which views may be made inside.

    Attributes:
        current: bytes alive now.
        peak: the most bytes that were alive since the context was entered, or since `restart`.
    """

    def __init__(self, whole_number: int | None = None, *, new_only: bool = False) -> None:
        super().__init__()
        self.whole_number = whole_number
        self.new_only = new_only
        self.current = self.peak = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Look for a new peak from here on."""
        self.peak = self.current

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and self.whole_number is not None:
            # of floating point is the only question whether gradients have overflowed
            return 0.0 if args[0].is_floating_point() else self.whole_number
        for leaf in tree_leaves((args, kwargs)) if self.new_only else ():
            if isinstance(leaf, torch.Tensor):
                self._enter(leaf.untyped_storage(), counted=False)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._enter(leaf.untyped_storage())
        return result

    def _enter(self, storage: torch.UntypedStorage, *, counted: bool = True) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = -(-storage.nbytes() // BLOCK) * BLOCK if counted else 0
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.current -= size
