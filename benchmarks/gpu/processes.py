"""Processes that the check starts: sections, whatever becomes of them, and the project's commands.

Nothing here imports PyTorch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.findings import Finding, decode

ROOT = Path(__file__).resolve().parents[2]
"""The project's, from which its commands run."""
SHOWN = 12
"""Lines that are shown of a command that has failed."""


@dataclass(frozen=True)
class Outcome:
    """What a section has said, and what it has found; a bad end is a finding too."""

    text: str
    findings: list[Finding]


class SectionProcess:
    """A section in a process group of its own, which is killed when the section's time is over.

    Args:
        name: the section's.
        command: what runs it.
        environment: variables of its own.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.process = start(
            command,
            environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def finish(self, limit: float) -> Outcome:
        """Wait for its end, or end it after `limit` seconds."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            kill(self.process)

        timer = threading.Timer(limit, expire)
        try:
            timer.start()  # in here, since Ctrl-C may come while it starts
            lines, findings = self._read()
        finally:
            timer.cancel()
            if timer.is_alive():
                timer.join()
        kill(self.process)  # what it has left behind
        status = self.process.returncode
        if status:
            result = f"killed after {limit:.0f} s" if expired.is_set() else f"exit status {status}"
            lines.append(f"!!! {self.name}: {result}\n")
            findings.append(Finding(self.name, "the section", result, ok=False))
        return Outcome("".join(lines), findings)

    def _read(self) -> tuple[list[str], list[Finding]]:
        """What it says until it has ended: plain lines, and findings."""
        lines, findings = [], []
        with self.process:
            for line in self.process.stdout:
                finding = decode(line)
                if finding:
                    findings.append(finding)
                else:
                    lines.append(line)
        return lines, findings


def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **options: object
) -> subprocess.Popen:
    """Start a command from the project's root, in a session of its own."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        start_new_session=True,
        **options,
    )


def kill(process: subprocess.Popen) -> None:
    """End a process that `start` has started, and all that it has started itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def run_python(
    *words: object, limit: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the project's to its end; if it fails, its last lines are printed.

    Args:
        words: what follows `python`.
        limit: seconds after which it is killed.
        environment: variables of its own.

    Raises:
        RuntimeError: its exit status is not 0.
        subprocess.TimeoutExpired: it took too long.
    """
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=limit,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        show(lines[-SHOWN:])
        raise RuntimeError(f"{' '.join(map(str, words[:2]))} ended with {done.returncode}")
    return done


def show(lines: Sequence[str]) -> None:
    """Print lines that somebody else has written."""
    for line in lines:
        print(f"    | {line[:220]}", flush=True)
