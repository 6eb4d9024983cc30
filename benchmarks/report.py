"""The table of measurements, for people, for machines and for benchmarks/README.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from benchmarks.measure import Row
from utils.errors import UserError
from utils.files import write_text

_HEAD = (
    "case",
    "straightforward",
    "ours",
    "ratio",
    "target",
    "memory, straightforward",
    "memory, ours",
    "largest difference",
    "work, share of peak",
)
_BEGIN, _END = "<!-- table of {}: begin -->", "<!-- table of {}: end -->"


def head() -> str:
    """The table's first two lines."""
    return f"| {' | '.join(_HEAD)} |\n|---|{'---:|' * (len(_HEAD) - 1)}"


def line(row: Row) -> str:
    """A row as a line of the table."""
    cells = (
        row.case,
        _seconds(row.baseline_s),
        _seconds(row.ours_s),
        f"{row.ratio:.1f}×",
        "" if row.target is None else f"{row.target:g}×",
        f"{row.baseline_mb:.1f} MB",
        f"{row.ours_mb:.1f} MB",
        f"{row.difference:.2g}",
        "" if row.gflop is None else f"{row.gflop:.0f} GFLOP, {row.peak_share:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def machine(device: torch.device) -> str:
    """Where the measurements were taken, and with which versions."""
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return (
        f"{place}; Python {platform.python_version()}, PyTorch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, NumPy {np.__version__}, Pillow {PIL.__version__}"
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a list of objects, with the fields of `Row` as keys."""
    write_text(path, json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def split_readme(path: Path, device: torch.device) -> tuple[str, str]:
    """What stands before and after this device's table in a Markdown file, its two markers too.

    Raises:
        UserError: the file lacks the markers.
    """
    text = path.read_text()
    begin, end = (marker.format(device.type) for marker in (_BEGIN, _END))
    if begin not in text or end not in text:
        raise UserError(f"{path} lacks the lines {begin} and {end}, which the table goes between")
    before, _, rest = text.partition(begin)
    return before + begin, end + rest.partition(end)[2]


def write_readme(path: Path, rows: Sequence[Row], device: torch.device) -> None:
    """Put the table between this device's two markers in a Markdown file; see `split_readme`."""
    before, after = split_readme(path, device)
    table = "\n".join([f"{machine(device)}:\n", head(), *map(line, rows)])
    write_text(path, f"{before}\n{table}\n{after}")
