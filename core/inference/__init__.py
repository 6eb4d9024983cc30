"""Inference; `core.inference.Segmenter` is its Python interface."""

from typing import Any


def __getattr__(name: str) -> Any:
    # only when it is asked for: the processes that write masks import this package without PyTorch
    if name == "Segmenter":
        from core.inference.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
