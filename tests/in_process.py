"""A command run in the tests' own process, which has loaded PyTorch already."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from utils.errors import run_command


def run_main(
    main: Callable[[], None], *words: object, cwd: Path | None = None
) -> CompletedProcess[str]:
    """Run `main` in `cwd` (here) with the command-line arguments `words`, to its end."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd or Path.cwd())
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        try:
            run_command(main)
        except SystemExit as end:
            status = end.code
    return CompletedProcess(words, status, out.getvalue(), err.getvalue())
