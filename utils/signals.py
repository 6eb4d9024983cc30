"""SIGTERM as an exception."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """What `sigterm_interrupts` makes of SIGTERM."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM, as schedulers send it, end the work as Ctrl-C does, not at once."""

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
