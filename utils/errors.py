"""The one exception for mistakes of the user's, and how a command ends with it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can mend: a wrong path, key, type, suffix or file.

    Its text is one line that names the thing and the remedy. Commands print it without a
    traceback and end with exit status 2; a programming error keeps its traceback.
    """


class InterruptionError(Exception):
    """Work that a signal ended in good order.

    Its text is one line that says how to go on. Commands print it and end with `status`.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


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


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main` and end the process with the exit status users rely on.

    0 when `main` returns, 2 for a `UserError` (its text on stderr as one line), 130 for Ctrl-C, and
    what an `InterruptionError` names.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except InterruptionError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
