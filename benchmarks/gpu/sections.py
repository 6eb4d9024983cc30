"""The sections of the check: where their functions are, and how long they may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.gpu.check import Check


class Section(NamedTuple):
    """A section.

    Attributes:
        place: module of `benchmarks.gpu`, and the function in it.
        seconds: after which it is killed.
        draws_on_mini_voc: whether it waits for the demo's data.
    """

    place: str
    seconds: float
    draws_on_mini_voc: bool = False

    def load(self) -> Callable[[Check], None]:
        """The section's function; its module, and PyTorch, are imported only here."""
        module, function = self.place.split(".")
        return getattr(import_module(f"benchmarks.gpu.{module}"), function)


# in the order of their worth: what comes last may find the time over
SECTIONS: Mapping[str, Section] = {
    "machine": Section("machine.machine", 60),
    "golden": Section("golden.golden", 150),
    "options": Section("gradients.options", 120),
    "dataparallel": Section("gradients.dataparallel", 60),
    "distributed": Section("distributed.distributed", 120, draws_on_mini_voc=True),
    "deterministic": Section("commands.deterministic", 160, draws_on_mini_voc=True),
    "demo": Section("commands.demo", 220, draws_on_mini_voc=True),
    "memory": Section("commands.memory", 240),
    "wrn38": Section("training.wrn38", 180),
    "launches": Section("profiling.launches", 90),
    "inference": Section("inference.inference", 120),
    "loader": Section("training.loader", 60),
    "compile": Section("training.compiled_step", 200),
    "benchmarks": Section("commands.benchmarks", 150),
    "pamr": Section("pamr.pamr", 90),
    "pooling": Section("pooling.pooling", 40),
}

TINY_PATIENCE = 4
"""How many times its usual limit anything may take on a busy CPU, if sizes are tiny."""

FIRST = ("machine",)
# what is no matter of time runs side by side, the first of each lane first
LANES = (
    ("golden", "options", "dataparallel", "distributed"),
    ("deterministic", "demo"),
    ("memory",),
)
# what is timed runs by itself
ALONE = tuple(name for name in SECTIONS if name not in (*FIRST, *chain(*LANES)))
