"""Atomic writes, locks on folders, user paths, and whether output can be written."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError

# what `atomic_path` calls its files: tempfile adds eight of these characters
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it is renamed to `path`.

    The folder is made if it is missing. The temporary name has the suffix .tmp, so that no search
    for finished files finds it. When the body raises, the temporary file is removed and an earlier
    `path` stays as it was. An `OSError` of writing names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with named_in_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
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


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Let an `OSError` of the body name `path`, if it names no file, or a temporary one.

    The errors of a full disk or an exceeded quota do not say where they arose.
    """
    try:
        yield
    except OSError as error:
        # without a number it is no error of the system's, and has a text of its own
        named, number = error.filename, error.errno
        is_temporary = named is not None and _TEMPORARY.fullmatch(Path(str(named)).name)
        if number and error.filename2 is None and (named is None or is_temporary):
            error.filename = str(path)
        raise


def write_text(path: str | Path, text: str, errors: str = "surrogateescape") -> None:
    """Write `text` (UTF-8) to `path` in one step.

    Args:
        errors: what becomes of file names in it that are not UTF-8, as for `open`; by default they
            stay the bytes that they are.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def write_changed(path: Path, text: str) -> bool:
    """Write `text` in one step unless the file holds it already; True if it was written."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def file_digest(path: Path, algorithm: str) -> str:
    """The digest of a file's content, in hexadecimal digits; `algorithm` as hashlib names it."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove what killed processes left in `folder` while they wrote files that match `pattern`.

    Only the temporary names of `atomic_path` are touched. No other process may be writing there.

    Args:
        pattern: a regular expression that the files' whole names match.
    """
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and re.fullmatch(pattern, match[1]):
            path.unlink()


@contextmanager
def only_process(folder: Path, command: str = "process", patience: float = 0.0) -> Iterator[None]:
    """Hold a lock on `folder`, made if need be, so that commands of this kind run one at a time.

    Look at the folder's content only while holding the lock. It is released when the process and
    its forks end, however they end. Raises `UserError` if another process, called `command` in the
    message, holds it for `patience` seconds. On file systems without locks nothing is locked.
    """
    deadline = time.monotonic() + patience
    while (handle := _lock(folder)) is None:
        if time.monotonic() >= deadline:
            raise UserError(
                f"another {command} is at work on {folder}; wait for its end, or stop it"
            )
        time.sleep(0.1)
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder: Path) -> int | None:
    """A handle on the folder that holds its lock, or None if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass  # some network file systems have no locks
    # the process that had it may have removed the folder meanwhile
    if not folder.exists() or not os.path.samestat(os.fstat(handle), folder.stat()):
        os.close(handle)
        return None
    return handle


def expanded(text: str) -> str:
    """A path of the user's, its leading ~ or ~NAME replaced by that user's home.

    Shells leave a ~ in quotes as it is. Raises `UserError` where there is no such user, unless the
    text as it stands is the name of a file.
    """
    if not text.startswith("~"):
        return text
    path = Path(text)
    try:
        return str(path.expanduser())
    except RuntimeError as error:
        if path.exists():
            return text
        raise UserError(
            f"{text}: there is no home of {path.parts[0]}; give a path without ~"
        ) from error


def user_path(text: str | Path) -> Path:
    """`expanded` as a path; the type of all options that take one."""
    return Path(expanded(str(text)))


def require_writable_folder(folder: Path, option: str) -> None:
    """Make `folder` if need be.

    Raises `UserError`, which names `option`, what the user set it with, unless files can be
    written to it.
    """
    with _refused(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)


def require_utf_8(folder: Path, option: str) -> None:
    """Raise `UserError`, which names `option`, if TensorBoard could not take `folder`'s name."""
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"TensorBoard cannot write to {folder}, a name that is not UTF-8; choose another "
            f"{option}"
        ) from error


def require_writable_file(path: Path, option: str) -> None:
    """Raise `UserError`, which names `option`, unless `path` can be written; nothing is made.

    For what is written after long work. Its folder need not exist, as with `atomic_path`.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    # the folder that is there already, so that nothing is made
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    with _refused(path, option):
        _try_to_write(folder)


def _try_to_write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def _refused(path: Path, option: str) -> Iterator[None]:
    """Turn an `OSError` of the body into a `UserError` about `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror}); choose another {option}"
        ) from error


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only in capital letters are one file in `folder`, which exists."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".case") as file:
        path = Path(file.name)
        return path.with_name(path.name.upper()).exists()


def _umask() -> int:
    # there is no way to read the umask but to set it
    mask = os.umask(0)
    os.umask(mask)
    return mask
