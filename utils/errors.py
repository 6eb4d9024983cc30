"""The exception for users' mistakes, and how commands exit with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from utils.streams import LostOutputError, UnreadOutputError, safe_streams


class UserError(Exception):
    """A mistake that the user can fix: a wrong path, key, type, suffix or file.

    Its text is one line that names the thing and the remedy. Commands print it without a
    traceback and end with exit status 2; a programming error keeps its traceback.
    """


class MissingError(UserError):
    """Something wanted is not there, for several images.

    Attributes:
        names: of all these images, of which its text gives the number and the first.
    """

    def __init__(self, text: str, names: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.names = list(names)


class InterruptionError(Exception):
    """A signal stopped the work, at a safe point.

    Its text is one line that says how to go on. Commands print it and end with `status`.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@contextmanager
def os_errors_end_in(remedy: str) -> Iterator[None]:
    """Turn an `OSError` of the body into a `UserError` that ends in `remedy`."""
    try:
        yield
    except BrokenPipeError:
        raise  # it is about our own output, not about a file
    except OSError as error:
        raise UserError(f"{error}; {remedy}") from error


def reason(error: Exception) -> str:
    """What an error says, as part of another message."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first names of several, and how many more there are, as part of a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def python_command(module: str, *arguments: str) -> str:
    """A command that runs a module, to be named in messages.

    It names the Python that runs now, which has what the module needs; one of the system's may not.
    """
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.join([str(python), "-m", module, *arguments])


def run_command(main: Callable[[], None], *, prints_result: bool = False) -> None:
    """Run a command's `main` and end the process with the exit status users rely on.

    0 when `main` returns, 2 for a `UserError` (its text on stderr as one line), 130 for Ctrl-C,
    what an `InterruptionError` names. Output that cannot be shown changes nothing of that.

    Args:
        main: the command.
        prints_result: whether its output is all that it is run for. It then ends with 141 where
            nobody reads that any more, as after `| head`, and with 2 where it cannot be written;
            other work goes on.
    """
    try:
        with safe_streams(ends_unread=prints_result):
            _run(main)
    except UnreadOutputError:
        sys.exit(141)
    except LostOutputError:
        sys.exit(2)


def _run(main: Callable[[], None]) -> None:
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
