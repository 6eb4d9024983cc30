"""Commands run in the tests' own process, which has loaded PyTorch already."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread, as in commands that tests start."""
    import torch  # not at the top: most commands do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
