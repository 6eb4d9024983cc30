"""How much memory a call takes on top of what there was before it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.accounting import MemoryAccount

Meter = Callable[[Callable[[], Any]], tuple[Any, int]]
"""Runs a call; returns its result, and the bytes that it took at its peak, the result included."""


def tensor_peak(call: Callable[[], Any]) -> tuple[Any, int]:
    """The memory of PyTorch's tensors: as CUDA's allocator has it, where a GPU is in use; else that
    of all tensors that are results of operations, without the workspaces within an operation."""
    if torch.cuda.is_initialized():
        return _cuda_peak(call)
    with MemoryAccount(new_only=True) as account:
        result = call()
    return result, account.peak


def python_peak(call: Callable[[], Any]) -> tuple[Any, int]:
    """The memory of Python's objects and NumPy's arrays; Pillow's images are not seen."""
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _cuda_peak(call: Callable[[], Any]) -> tuple[Any, int]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    return result, torch.cuda.max_memory_allocated() - before
