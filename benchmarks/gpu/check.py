"""What every section of the check uses: rows, time and memory, at full size or a tiny one."""

from __future__ import annotations

import gc
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.findings import Finding
from benchmarks.gpu.processes import run_python, show
from benchmarks.gpu.sections import TINY_PATIENCE
from benchmarks.measure import median_seconds

GIB = 2**30


@dataclass(frozen=True)
class Check:
    """A section at work.

    Attributes:
        section: its name.
        device: where it computes.
        tiny: whether sizes are to be so small that they show no more than that the section runs.
        out: the folder that it may write to.
    """

    section: str
    device: torch.device
    tiny: bool
    out: Path

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def row(self, what: str, result: str, ok: bool | None = None) -> None:
        """Print a line of the table at once."""
        finding = Finding(self.section, what, result, ok)
        print(finding.text(), flush=True)
        print(finding.encoded(), flush=True)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Turn an exception into a row, with the last lines of its traceback above, and go on."""
        try:
            yield
        except Exception as error:
            show(traceback.format_exc().strip().splitlines()[-9:])
            words = " ".join(str(error).split())
            self.row(what, f"{type(error).__name__}: {words[:160]}", ok=False)

    def seconds(self, call: Callable[[], Any], repetitions: int = 7, warm: int = 2) -> float:
        """The median time of a call, the GPU's work included."""
        return median_seconds(call, *((1, 0) if self.tiny else (repetitions, warm)))

    def milliseconds(self, call: Callable[[], Any], repetitions: int = 7, warm: int = 2) -> float:
        """`seconds`, a thousand to the second."""
        return 1000 * self.seconds(call, repetitions, warm)

    @property
    def patience(self) -> int:
        """What limits of time are to be multiplied with."""
        return TINY_PATIENCE if self.tiny else 1

    def run(
        self, *words: object, limit: float, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`run_python` with a limit for full size."""
        return run_python(*words, limit=self.patience * limit, environment=environment)

    def free(self) -> None:
        """Give back memory that nothing uses, and look for a new peak from here on."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def meets(self, target: str, met: bool, *, anywhere: bool = False) -> tuple[str, bool | None]:
        """What a row says of a target, and its judgement: None where the target does not apply.

        Args:
            target: in words.
            met: whether the result meets it.
            anywhere: whether it is for every GPU, and not for an H100 alone.
        """
        applies = self.on_gpu and not self.tiny
        if applies and not anywhere:
            applies = torch.cuda.get_device_capability() == (9, 0)
        if not applies:
            return f"target {target}", None
        return f"target {target}: {'met' if met else 'MISSED'}", met

    def reserved(self) -> int:
        """The most bytes that PyTorch took from the GPU since `free`."""
        return torch.cuda.max_memory_reserved() if self.on_gpu else 0

    def peak_memory(self) -> str:
        """The most that was in use since `free`."""
        if not self.on_gpu:
            return "-"
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return f"{allocated / GIB:.2f} GiB allocated, {reserved / GIB:.2f} reserved"


def has_crf() -> bool:
    """Whether pydensecrf is there, which the CRF needs."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        return False
    return True
