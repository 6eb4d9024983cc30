"""Resumable downloads that are verified before they get their final name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utils.errors import UserError
from utils.files import file_digest
from utils.transfer import AddressError, fetch, held_bytes


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

    def find_error(self, path: Path) -> str:
        """What is wrong with the file's digest; "" if nothing is."""
        found = file_digest(path, self.algorithm)
        if found.startswith(self.digits.lower()):
            return ""
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

    Until then it is `path`.part, which stays when the transfer breaks off, so that the next call
    resumes it. A `path` that exists already is verified and left as it is.

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

    def find_error(file: Path) -> str:
        error = checksum.find_error(file) if checksum else ""
        if check and not error:
            try:
                check(file)
            except UserError as found:
                return str(found)
        return error

    part = part_of(path)
    try:
        if path.exists():
            if error := find_error(path):
                raise UserError(
                    f"{path} is not {name} as expected: {error}; delete it and run this again"
                )
            with suppress(OSError):  # a folder that may only be read holds none of ours
                _remove_part(part)
            print(f"{name}: {path} is there already{', and verified' if checksum or check else ''}")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        failures = _fetch_from_first(urls, part, name, checksum is not None, find_error)
        if not failures:
            part.replace(path)
            _remove_part(part)
            return
        held, kept = held_bytes(part), ""
        if held:
            kept = f"; {held} bytes are kept in {part}, and running this again goes on there"
        else:
            _remove_part(part)
    except OSError as error:
        raise UserError(
            f"cannot read or write {error.filename or part} ({name}): {error.strerror or error}; "
            "once that is mended, run this again, and it goes on there"
        ) from error
    raise UserError(f"cannot download {name} to {path} ({'; '.join(failures)}){kept}; {remedy}")


def verify(path: Path, checksum: Checksum, name: str, remedy: str) -> None:
    """Raise `UserError`, which ends in `remedy`, unless the file has this checksum."""
    try:
        error = checksum.find_error(path)
    except OSError as failure:
        raise UserError(f"cannot read {path} ({name}): {failure.strerror}; {remedy}") from failure
    if error:
        raise UserError(f"{path} is not {name} as expected: {error}; {remedy}")


def discard_download(path: Path) -> None:
    """Remove a downloaded file and what is held of an unfinished download of it."""
    path.unlink(missing_ok=True)
    _remove_part(part_of(path))


def part_of(path: Path) -> Path:
    """Where the bytes are until all of `path` has come."""
    return path.with_name(f"{path.name}.part")


def _remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    # earlier versions kept the server's ETag there
    part.with_name(f"{part.name}.validator").unlink(missing_ok=True)


def _fetch_from_first(
    urls: Sequence[str], part: Path, name: str, verified: bool, find_error: Callable[[Path], str]
) -> list[str]:
    """Bring the right file to `part`; if no address has it, return what is wrong with each."""
    failures = []
    for url in urls:
        try:
            _fetch_right(url, part, name, verified, find_error)
            return []
        except AddressError as error:
            failures.append(f"{url}: {error}")
    return failures


def _fetch_right(
    url: str, part: Path, name: str, verified: bool, find_error: Callable[[Path], str]
) -> None:
    """Bring the right file to `part`; what came in pieces and is wrong is fetched once more."""
    in_pieces = fetch(url, part, name, verified)
    error = find_error(part)
    if error and in_pieces:
        print(f"{name}: what came in pieces is wrong ({error}); downloading it anew", flush=True)
        part.unlink()
        fetch(url, part, name, verified)
        error = find_error(part)
    if error:
        part.unlink()
        raise AddressError(f"this gives a wrong file, {error}")
