"""Speed and memory against straightforward formulations, as a table: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks import bf16_cases, file_cases, inference_cases, pamr_cases, training_cases
from benchmarks.case import Builders
from benchmarks.measure import DifferentResultsError, Row, measure
from benchmarks.report import head, line, machine, split_readme, write_json, write_readme
from core.devices import keep_memory, select_device
from utils.errors import UserError, run_command
from utils.files import require_writable_file, user_path
from utils.streams import go_on_unread

README = Path(__file__).with_name("README.md")
CASES: Mapping[str, Builders] = {
    "cpu": {
        **pamr_cases.CPU_CASES,
        **training_cases.CPU_CASES,
        **inference_cases.CPU_CASES,
        **file_cases.CPU_CASES,
        **bf16_cases.cases_here(),
    },
    "cuda": {
        **pamr_cases.CUDA_CASES,
        **training_cases.CUDA_CASES,
        **inference_cases.CUDA_CASES,
    },
}
BUDGET = 10.0
"""Seconds that the timed calls of a case may take, unless so few of them take longer."""


def main() -> None:
    args = _parse_arguments()
    if args.json or args.readme:
        go_on_unread()
    device = select_device(args.device)
    if args.json:
        require_writable_file(args.json, "--json")
    if args.readme:
        split_readme(README, device)
    torch.set_num_threads(args.threads)
    builders = _choose(CASES.get(device.type, {}), args.only)
    if device.type == "cpu" and not bf16_cases.cases_here():
        print(f"left out, without AMX: {', '.join(bf16_cases.CPU_CASES)}", file=sys.stderr)
    print(f"{machine(device)}\n\n{head()}", flush=True)
    rows, failures = _measure_all(builders, device, args.seconds)
    if args.json:
        write_json(args.json, rows)
    if failures:
        sys.exit("\n".join(failures))
    if args.readme:
        write_readme(README, rows, device)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default: 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these cases alone")
    parser.add_argument(
        "--seconds", type=float, default=BUDGET, help=f"of a case's timed calls ({BUDGET:g})"
    )
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write the rows there")
    parser.add_argument(
        "--readme", action="store_true", help="also put the table into benchmarks/README.md"
    )
    args = parser.parse_args()
    if args.threads < 1:
        raise UserError(f"--threads {args.threads}: give 1 or more")
    if args.readme and args.only:
        raise UserError("--readme writes the whole table; leave --only out")
    return args


def _choose(builders: Builders, names: list[str] | None) -> Builders:
    if not builders:
        raise UserError("there are cases for --device cpu and cuda only")
    if unknown := [name for name in names or [] if name not in builders]:
        raise UserError(f"--only {' '.join(unknown)}: unknown; choose from {', '.join(builders)}")
    return {name: builders[name] for name in names or builders}


def _measure_all(
    builders: Builders, device: torch.device, seconds: float
) -> tuple[list[Row], list[str]]:
    """Measure and print case by case; returns the rows, and what cases failed with."""
    rows, failures = [], []
    for name, build in builders.items():
        if name in bf16_cases.CPU_CASES:
            # both sides, as our commands do; not before, where one side stands for the published
            # system, which gives freed memory back
            keep_memory(device)
        try:
            row = measure(build(device), seconds)
        except DifferentResultsError as error:
            failures.append(str(error))
            continue
        rows.append(row)
        print(line(row), flush=True)
    return rows, failures


if __name__ == "__main__":
    run_command(main, prints_result=True)
