"""How cost grows with the image's side and the number of classes, as a plot.

`python -m benchmarks.growth` measures PAMR, straightforward and ours, and inference, prints what it
finds and draws benchmarks/growth.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import growth_inference, straightforward
from benchmarks.measure import median_seconds
from benchmarks.meters import tensor_peak
from benchmarks.pamr_cases import pamr_inputs
from core.devices import select_device
from models.heads.pamr import PAMR
from utils.errors import UserError, run_command
from utils.files import atomic_path, require_writable_file, user_path

PICTURE = Path(__file__).with_name("growth.png")
SIDES = (41, 81, 161, 321)
CLASSES = (2, 6, 11, 21)
SIDE, NUM_CLASSES = 81, 21
"""What stays the same while the other one grows."""

Row = dict[str, Any]


def measure_pamr(
    device: torch.device, sides: Sequence[int] = SIDES, classes: Sequence[int] = CLASSES
) -> list[Row]:
    """PAMR of one image at growing sides and numbers of classes.

    Returns:
        Rows of `what`, `axis` ("side" or "classes"), `side`, `classes`, median `seconds` and the
        extra memory at the peak, `mb` (10⁶ bytes).
    """
    formulations: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PAMR, straightforward": straightforward.pamr,
        "PAMR, ours": PAMR(),
    }
    points = [("side", side, NUM_CLASSES) for side in sides]
    points += [("classes", SIDE, number) for number in classes]
    rows = []
    for axis, side, number in points:
        image, masks, _ = pamr_inputs(device, 1, side, number)
        for what, refine in formulations.items():
            call = partial(refine, image, masks)
            _, peak = tensor_peak(call)
            seconds = median_seconds(call)
            place = {"axis": axis, "side": side, "classes": number}
            rows.append({"what": what, **place, "seconds": seconds, "mb": peak / 1e6})
    return rows


def measure_inference(device: torch.device) -> list[Row]:
    """Inference of one image, one view, ResNet50; rows as those of `measure_pamr`."""
    what = "inference, resnet50, one view"
    return [{"what": what, **row} for row in growth_inference.measure(device)]


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | side | classes | ms | MB |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['what']} | {row['side']} | {row['classes']} | {1000 * row['seconds']:.3g} | "
        f"{row['mb']:.3g} |"
        for row in rows
    ]
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw time and memory against side and classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    for column, (axis, label) in enumerate((("side", "side (pixels)"), ("classes", "classes"))):
        for line, (key, unit) in enumerate((("seconds", "seconds"), ("mb", "memory (MB)"))):
            panel = panels[line][column]
            for what in dict.fromkeys(row["what"] for row in rows):
                points = [row for row in rows if (row["what"], row["axis"]) == (what, axis)]
                x = [row[axis] for row in points]
                panel.plot(x, [row[key] for row in points], marker="o", label=what)
            panel.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
            ticks = sorted({row[axis] for row in rows if row["axis"] == axis})
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.set_xticks([], minor=True)
            ticks = sorted({row[axis] for row in rows if row["axis"] == axis})
            panel.set_xticks([], minor=True)
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.growth", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default: 2)")
    parser.add_argument("--output", type=user_path, default=PICTURE, help="the picture, a PNG")
    args = parser.parse_args()
    if not find_spec("matplotlib"):
        raise UserError(
            "drawing wants matplotlib: .venv/bin/pip install -r benchmarks/requirements.txt"
        )
    require_writable_file(args.output, "--output")
    device = select_device(args.device)
    torch.set_num_threads(args.threads)
    rows = measure_pamr(device) + measure_inference(device)
    print(table(rows), flush=True)
    draw(rows, args.output)


if __name__ == "__main__":
    run_command(main)
