"""Downloads that go on where they stopped, and are verified before they get their name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from utils.errors import UserError
from utils.progress import CHUNK
from utils.transfer import AddressError, discard, fetch, finish, held_bytes

# what to do about a file in the place of the download
_ANEW = "delete it and run this again"


@dataclass(frozen=True)
class Checksum:
    """What a file's digest must be.

    Attributes:
        algorithm: the hash function.
        digits: the digest in hexadecimal, or only its first digits.
    """

    algorithm: Literal["md5", "sha256"]
    digits: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-fA-F]+", self.digits):
            raise UserError(
                f"{self.digits!r} is no {self.algorithm} checksum; give its hexadecimal digits"
            )

    def fault(self, path: Path) -> str | None:
        """What is wrong with the file's digest, if anything is."""
        digest = hashlib.new(self.algorithm, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        found = digest.hexdigest()
        if found.startswith(self.digits.lower()):
            return None
        return f"its {self.algorithm} is {found}, expected {self.digits.lower()}"


def download(
    urls: Sequence[str],
    path: Path,
    name: str,
    checksum: Checksum | None = None,
    check: Callable[[Path], None] | None = None,
    remedy: str = "try again later, or give another address",
) -> None:
    """Bring the file at the first of `urls` that has it to `path`, whole and verified.

    Until then it is `path`.part. That file stays when the transfer breaks off, and the next call
    goes on with it, unless the server's file changed meanwhile. A `path` that is there already is
    verified and left as it is.

    Args:
        urls: http or https addresses of the same file.
        path: the file; its folder is made if it is missing.
        name: what users call it.
        checksum: what its digest must be.
        check: called with the file under its temporary name; raises `UserError` if it is wrong.
        remedy: what to do when no address has the file, for the error.

    Raises:
        UserError: no address has the file, the transfer breaks off again and again, the file is
            wrong, or it cannot be written.
    """
    part = part_of(path)
    find_fault = partial(_fault, checksum=checksum, check=check)
    try:
        if path.exists():
            if checksum:
                verify(path, checksum, name, _ANEW)
            if check and (fault := _fault(path, None, check)):
                raise _unexpected(path, name, fault, _ANEW)
            with suppress(OSError):  # a folder that may only be read holds none of ours
                discard(part)
            print(f"{name}: {path} is there already{', and verified' if checksum or check else ''}")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch_from_first(urls, part, name, find_fault, remedy)
        finish(part, path)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or part} ({name}): {error.strerror or error}; once that "
            "is mended, run this again, and it goes on there"
        ) from error


def verify(path: Path, checksum: Checksum, name: str, remedy: str) -> None:
    """Raise `UserError`, which ends in `remedy`, unless the file has this checksum."""
    try:
        fault = checksum.fault(path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({name}): {error.strerror}; {remedy}") from error
    if fault:
        raise _unexpected(path, name, fault, remedy)


def discard_download(path: Path) -> None:
    """Remove a downloaded file and what is held of an unfinished download of it."""
    path.unlink(missing_ok=True)
    discard(part_of(path))


def part_of(path: Path) -> Path:
    """Where the bytes are until all of `path` has come."""
    return path.with_name(f"{path.name}.part")


def _unexpected(path: Path, name: str, fault: str, remedy: str) -> UserError:
    return UserError(f"{path} is not {name} as expected: {fault}; {remedy}")


def _fault(
    path: Path, checksum: Checksum | None, check: Callable[[Path], None] | None
) -> str | None:
    """What is wrong with the file, if anything is."""
    fault = checksum.fault(path) if checksum else None
    if check and not fault:
        try:
            check(path)
        except UserError as error:
            return str(error)
    return fault


def _fetch_from_first(
    urls: Sequence[str],
    part: Path,
    name: str,
    find_fault: Callable[[Path], str | None],
    remedy: str,
) -> None:
    """Bring the right file to `part`, from the first address that gives it."""
    faults = []
    for url in urls:
        try:
            return _fetch_right(url, part, name, find_fault)
        except AddressError as error:
            faults.append(f"{url}: {error}")
    held, kept = held_bytes(part), ""
    if held:
        kept = f"; {held} bytes are kept in {part}, and running this again goes on there"
    else:
        discard(part)
    raise UserError(
        f"cannot download {name} to {part.with_suffix('')} ({'; '.join(faults)}){kept}; {remedy}"
    )


def _fetch_right(url: str, part: Path, name: str, find_fault: Callable[[Path], str | None]) -> None:
    """Bring the right file to `part`; what came in pieces and is wrong is fetched once more."""
    in_pieces = fetch(url, part, name)
    fault = find_fault(part)
    if fault and in_pieces:
        print(f"{name}: what came in pieces is wrong ({fault}); downloading it anew", flush=True)
        discard(part)
        fetch(url, part, name)
        fault = find_fault(part)
    if fault:
        discard(part)
        raise AddressError(f"this gives a wrong file, {fault}")
