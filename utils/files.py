"""Files that are either whole or not there, and folders that take them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it is renamed to `path`.

    The folder is made if it is missing. The temporary name keeps the suffix, since some writers
    choose the format by it. When the body raises, the temporary file is removed and an earlier
    `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes private files; a written file should follow the user's umask
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_writable_folder(folder: Path, option: str) -> None:
    """Make `folder` if need be.

    Raises `UserError`, which names `option`, what the user set it with, unless files can be
    written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}); choose another {option}"
        ) from error


def _umask() -> int:
    # there is no way to read the umask but to set it
    mask = os.umask(0)
    os.umask(mask)
    return mask
