"""The option --missing-to: all that is missing, in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import MissingError, UserError, os_errors_end_in
from utils.files import write_text


@contextmanager
def missing_names_to(file: Path | None) -> Iterator[None]:
    """Write the names that a `MissingError` of the body carries to `file`, if there is one."""
    try:
        yield
    except MissingError as error:
        if file is None:
            raise UserError(f"{error}; --missing-to FILE lists all") from error
        with os_errors_end_in("choose another --missing-to"):
            write_text(file, "".join(f"{name}\n" for name in error.names))
        raise UserError(f"{error}; {file} lists all") from error
