"""What works and how fast on a GPU, in under 8 minutes on an H100:

    python -m benchmarks.gpu_check
    python -m benchmarks.gpu_check --only pamr wrn38
    python -m benchmarks.gpu_check --device cpu --tiny     # that the check itself runs

Sections run in processes of their own, so that one that crashes or hangs costs itself alone.
OUT/report.txt keeps all that is printed, OUT/results.json the rows of the table at its end; nothing
is written elsewhere. A row marked LOOK is not as it should be, and then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

if not __package__:  # run as a file, whose folder would be searched in place of the project's root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.gpu import mini_voc
from benchmarks.gpu.findings import HEAD, Finding
from benchmarks.gpu.processes import SectionProcess, kill, start
from benchmarks.gpu.sections import ALONE, FIRST, LANES, SECTIONS, TINY_PATIENCE
from core.devices import select_device
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import user_path

LEAST = 12
"""Seconds that must be left of the budget for another section."""


def main() -> None:
    args = _parse_arguments()
    select_device(args.device)
    out = _make_folder(args.out)
    with Report(out) as report:
        report.say(f"gpu_check, {time.strftime('%Y-%m-%d %H:%M:%S')}, results in {out}\n")
        _tell_of_other_gpus(report, args.device)
        Session(args, report).run()
        report.say_table()
    if report.complaints():
        sys.exit(1)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="these sections alone"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test the check itself")
    parser.add_argument(
        "--budget", type=float, default=480, metavar="S", help="seconds for all (default: 480)"
    )
    parser.add_argument(
        "--out", type=user_path, metavar="DIR", help="for results (default: a new temporary folder)"
    )
    return parser.parse_args()


def _make_folder(path: Path | None) -> Path:
    if path is None:
        return Path(tempfile.mkdtemp(prefix="gpu_check_"))
    with os_errors_end_in("give another folder with --out"):
        path.mkdir(parents=True, exist_ok=True)
    if (path / Report.TEXT).exists():
        raise UserError(f"--out {path} holds the report of an earlier check; give a new folder")
    return path.resolve()


def _tell_of_other_gpus(report: Report, device: str) -> None:
    count = torch.cuda.device_count() if device == "cuda" else 0
    if count > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        report.say(
            f"the first of {count} GPUs is checked; for several: CUDA_VISIBLE_DEVICES=0,1 "
            "python -m benchmarks.gpu_check --only dataparallel distributed\n"
        )


class Report:
    """What is printed, kept in a file too, and the rows of the table.

    Args:
        out: the folder of both.
    """

    TEXT, ROWS = "report.txt", "results.json"

    def __init__(self, out: Path) -> None:
        self.out = out
        self._begin = time.time()
        self._rows: dict[str, list[Finding]] = {}
        self._file = (out / self.TEXT).open("w", encoding="utf-8")

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seconds(self) -> float:
        """Since the check began."""
        return time.time() - self._begin

    def say(self, text: str) -> None:
        print(text, end="", flush=True)
        self._file.write(text)
        self._file.flush()

    def add(self, section: str, title: str, text: str, findings: Iterable[Finding]) -> None:
        """Print what a section has said, and keep its findings."""
        self._rows[section] = list(findings)
        self.say(f"\n=== {section} {title}\n{text}")
        rows = [asdict(finding) for each in self._rows.values() for finding in each]
        (self.out / self.ROWS).write_text(json.dumps(rows, indent=1))

    def say_table(self) -> None:
        """Print the findings in the order of the sections."""
        lines = [each.table_line() for name in SECTIONS for each in self._rows.get(name, [])]
        head = f"\n=== table (all in {self.seconds():.0f} s)\n\n{HEAD}\n"
        self.say(head + "".join(f"{line}\n" for line in lines))

    def complaints(self) -> list[Finding]:
        """What is not as it should be."""
        return [each for rows in self._rows.values() for each in rows if each.ok is False]


class Session:
    """The sections that were asked for, one after the other or side by side.

    Args:
        args: of the command line.
        report: what they say and find goes there.
    """

    def __init__(self, args: argparse.Namespace, report: Report) -> None:
        self.args = args
        self.report = report
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen] | None = []
        """None once nothing more is to be started."""

    def run(self) -> None:
        """Run them; whatever still runs when this is interrupted is killed."""
        with ThreadPoolExecutor(len(LANES)) as pool:
            try:
                if any(SECTIONS[name].draws_on_mini_voc for name in self.args.only):
                    self._draw_mini_voc()
                for lanes in ((FIRST,), LANES, (ALONE,)):
                    _finish([pool.submit(self._run_lane, lane) for lane in lanes])
            finally:
                self._kill_all()

    def _kill_all(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        for process in running:
            kill(process)

    def _draw_mini_voc(self) -> None:
        out = self.report.out
        with mini_voc.log_of(out).open("w") as log:
            process = start(
                mini_voc.command(out, self.args.tiny), stdout=log, stderr=subprocess.STDOUT
            )
        self._running.append(process)

    def _run_lane(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.args.only:
                self._run_section(name)

    def _run_section(self, name: str) -> None:
        budget, begin = self.args.budget, self.report.seconds()
        with self._lock:
            if self._running is None:
                return
            if budget - begin < LEAST:
                self._leave_out(name)
                return
            section = SectionProcess(name, self._command(name), self._environment())
            self._running.append(section.process)
        patience = TINY_PATIENCE if self.args.tiny else 1
        outcome = section.finish(min(patience * SECTIONS[name].seconds, budget - begin))
        with self._lock:
            if self._running is None:
                return
            self._running.remove(section.process)
            title = f"(from {begin:.0f} s to {self.report.seconds():.0f} s)"
            self.report.add(name, title, outcome.text, outcome.findings)

    def _leave_out(self, name: str) -> None:
        result = f"left out, the {self.args.budget:.0f} s are over"
        self.report.add(name, result, "", [Finding(name, "the section", result, ok=False)])

    def _command(self, name: str) -> list[str]:
        words = [name, "--device", self.args.device, "--out", str(self.report.out)]
        tiny = ["--tiny"] if self.args.tiny else []
        return [sys.executable, "-m", "benchmarks.gpu", *words, *tiny]

    def _environment(self) -> dict[str, str]:
        if self.args.device == "cuda":
            return {"CUDA_VISIBLE_DEVICES": "0", **os.environ}
        # threads of many processes would wait for each other; Triton's kernels run without a GPU
        return {"OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}


def _finish(lanes: Sequence[Future[None]]) -> None:
    """Wait for the end of all; raise the first error among theirs."""
    # A signal that comes just before a wait does not end it, and Ctrl-C would do nothing until the
    # lanes are through; so no wait is a long one.
    while wait(lanes, timeout=0.5).not_done:
        pass
    for lane in lanes:
        lane.result()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # the sections end with the check
        signal.signal(number, signal.default_int_handler)
    run_command(main)
