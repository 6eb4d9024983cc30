"""Standard streams that cannot make a command fail, even if closed, full or unread."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class UnreadOutputError(BrokenPipeError):
    """Nobody reads a command's result any more, as after `| head`."""


class LostOutputError(OSError):
    """A command's result cannot be written, as on a full disk."""


@contextmanager
def safe_streams(ends_unread: bool) -> Iterator[None]:
    """Let output fail without consequences while the body runs, and at the process's end.

    Streams that are closed take what is printed, and drop it; so do those that cannot be written,
    as on a full disk, which is said once. What an encoding cannot show, such as file names that are
    no text, is escaped.

    Args:
        ends_unread: whether the body is to end where standard output cannot be written: by an
            `UnreadOutputError` where nobody reads it, else by a `LostOutputError`. Without this,
            and where it was closed from the start, the body goes on.
    """
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    out, err = _Output(before[0], ends_unread), _Output(before[1], False)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield
        out.flush()
    except LostOutputError as error:
        reason = f"the output could not be written ({error.strerror})"
        print(f"error: {reason}; make room, or send it elsewhere", file=err)
        raise
    finally:
        out.finish()
        err.finish()
        sys.stdout, sys.stderr = before


def go_on_unread() -> None:
    """Let the body of `safe_streams` go on from here where standard output cannot be written.

    For a command whose output is its result, but which was asked for files too.
    """
    if isinstance(sys.stdout, _Output):
        sys.stdout.ends_unread = False


def _occupy_descriptors() -> None:
    # the next file that is opened would get the number of a closed stream, and with it the output
    # of libraries and other processes
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _lead_nowhere(descriptor)


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == descriptor:  # the lowest free number, which a closed stream has left
        os.set_inheritable(descriptor, True)
        return
    os.dup2(nowhere, descriptor)  # unlike the original, other processes inherit it
    os.close(nowhere)


class _Output:
    """A text stream whose writing does not fail; in all else the stream that it stands for."""

    def __init__(self, stream: TextIO | None, ends_unread: bool) -> None:
        self._stream = stream or io.TextIOWrapper(io.FileIO(os.devnull, "w"))
        self._is_own = stream is None
        self.ends_unread = ends_unread
        self._has_failed = False
        if hasattr(self._stream, "reconfigure"):
            with suppress(OSError):  # it writes what it held back
                self._stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def finish(self) -> None:
        """Write what is held back, or drop it: Python would try once more, and complain."""
        self.ends_unread = False
        self.flush()
        if self._is_own:
            self._stream.close()
        elif self._has_failed:
            with suppress(OSError):
                _lead_nowhere(self._stream.fileno())

    def _fail(self, error: OSError) -> None:
        if self.ends_unread:
            self._has_failed = True
            kind = UnreadOutputError if isinstance(error, BrokenPipeError) else LostOutputError
            raise kind(error.errno, error.strerror) from None
        if not self._has_failed:
            self._has_failed = True
            if self is sys.stdout:
                print(
                    f"warning: output could not be written ({error.strerror}); the work is not "
                    "affected",
                    file=sys.stderr,
                    flush=True,
                )
