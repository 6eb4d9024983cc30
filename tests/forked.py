"""Commands in copies of the tests' process, which need not import PyTorch again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import torch

from core.distributed import leave_group
from utils.errors import run_command


class Forked:
    """A command in a process of its own, with what tests use of a `Popen`.

    Args:
        main: the command.
        words: its command line, `sys.argv`.
        folder: where it runs.
        environment: variables to add.
    """

    def __init__(
        self,
        main: Callable[[], object],
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._files = [TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115, closed at the exit
        self._process = multiprocessing.get_context("fork").Process(
            target=_run, args=(main, words, folder, environment, self._files)
        )
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        for file in self._files:
            file.close()

    @property
    def returncode(self) -> int | None:
        """None while it runs, minus the signal's number if one ended it."""
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; gives stdout and stderr."""
        self._process.join(timeout)
        assert not self._process.is_alive()
        out, err = self._files
        return _content(out), _content(err)


def fork_pair(main: Callable[[], object], words: Sequence[str], folder: Path) -> list[Forked]:
    """Two processes that are a group, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "tests"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Forked(main, words, folder, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _run(
    main: Callable[[], object],
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: Sequence[IO[str]],
) -> None:
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = list(words)
    # a copy has none of the threads that the tests' process may have computed with
    torch.set_num_threads(1)
    try:
        run_command(main)
    finally:
        leave_group()
