"""The demo's data, drawn by a process of its own while sections that do without it run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.gpu.processes import run_python

PATIENCE = 100
"""Seconds that a section waits for the data."""


def main(folder: str, train: str, val: str) -> None:
    """Draw and prepare mini-VOC in `folder`, with so many images; a file beside it tells the end.

    It takes half a minute of one core.
    """
    end = "failed"
    try:
        run_python(
            "-m",
            "datasets.mini_voc",
            "--out",
            folder,
            "--train",
            train,
            "--val",
            val,
            limit=PATIENCE,
        )
        run_python("-m", "datasets.prepare", "--root", folder, limit=PATIENCE)
        end = "drawn"
    finally:
        Path(f"{folder}.{end}").touch()


def command(out: Path, tiny: bool) -> list[str]:
    """What draws the data in the check's folder."""
    sizes = ("48", "20") if tiny else ("480", "100")
    return [sys.executable, "-m", "benchmarks.gpu.mini_voc", str(out / "mini_voc"), *sizes]


def log_of(out: Path) -> Path:
    """What the process that draws has to say."""
    return out / "drawing.txt"


def mini_voc(out: Path) -> Path:
    """The folder of the data, once all of it is there.

    Raises:
        RuntimeError: it was not drawn.
    """
    end = time.time() + PATIENCE
    while not (out / "mini_voc.drawn").exists():
        if time.time() > end or (out / "mini_voc.failed").exists():
            lines = log_of(out).read_text().splitlines()
            raise RuntimeError(f"mini-VOC was not drawn: {' '.join(lines[-3:])}")
        time.sleep(0.5)
    return out / "mini_voc"


if __name__ == "__main__":
    main(*sys.argv[1:])
