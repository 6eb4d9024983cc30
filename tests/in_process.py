"""Commands called in the tests' own process, which has imported everything already."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from utils.errors import run_command


def call_command(main: Callable[[], None], *arguments: object) -> subprocess.CompletedProcess[str]:
    """What `main` does with these arguments, as `subprocess.run` would tell it."""
    argv = ["command", *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            run_command(main)
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())
