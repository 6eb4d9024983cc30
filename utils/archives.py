"""Unpacking untrusted archives into a new folder, and nowhere else."""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.files import named_in_errors
from utils.progress import CHUNK, track_bytes

_GZIP_MAGIC = b"\x1f\x8b"


class ArchiveError(Exception):
    """The archive that the text names is damaged or unsafe."""


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack a tar archive, plain or with gzip, into the new folder `folder`.

    Only regular files and folders are made, only inside `folder`, and with the modes that the
    umask gives. After an error `folder` holds what had been unpacked.

    Args:
        archive: the file; its content tells whether it is compressed.
        folder: where the members go; made here, so that no link in it leads elsewhere.
        name: what users call the content.

    Raises:
        ArchiveError: the archive is damaged or cut off, or a member is a link or a device or lies
            outside of `folder`.
        OSError: something cannot be read or written, or there is a `folder` already.
    """
    total = archive.stat().st_size
    folder.mkdir(parents=True)
    with archive.open("rb") as source, track_bytes(total, f"unpacking {name}") as advance:
        compressed = source.peek(2)[:2] == _GZIP_MAGIC
        stream = gzip.GzipFile(fileobj=source) if compressed else source
        with _reading(archive):
            tar = tarfile.TarFile(fileobj=stream, tarinfo=_Member)
        position = 0
        for member in _members(tar, archive):
            target = _target(member, folder, archive)
            try:
                _write(tar, member, target, archive)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise _refusal(archive, member, "it is a file and a folder at once") from error
            advance(source.tell() - position)
            position = source.tell()
        with _reading(archive):
            # gzip's checksum stands behind the last byte, and tarfile has stopped before it
            while stream.read(CHUNK):
                pass
        advance(source.tell() - position)


class _Member(tarfile.TarInfo):
    """A member whose header is whole: tarfile takes a damaged or a missing one for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            member = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            # the block of zeros that ends an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        return member


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    while True:
        with _reading(archive):
            member = tar.next()
        if member is None:
            return
        yield member


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what damaged bytes lead to (zlib.error, EOFError, ValueError, ...) into our error."""
    try:
        yield
    except Exception as error:
        reason = error or type(error).__name__
        raise ArchiveError(f"{archive} is damaged, cut off or no tar archive ({reason})") from error


def _target(member: tarfile.TarInfo, folder: Path, archive: Path) -> Path:
    """Where the member goes; an `ArchiveError` if it may not be made."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.issym() or member.islnk():
        raise _refusal(archive, member, f"it is a link to {member.linkname!r}")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _refusal(archive, member, "it is neither a plain file nor a folder")
    outside = member.name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", member.name)
    if outside or re.search(r"[\\\0]", member.name):
        raise _refusal(archive, member, "its path leads out of the folder")
    if not member.name or (member.isreg() and not parts):
        raise _refusal(archive, member, "it has no name")
    return folder.joinpath(*parts)


def _refusal(archive: Path, member: tarfile.TarInfo, reason: str) -> ArchiveError:
    return ArchiveError(f"{archive} is not unpacked, for its member {member.name!r}: {reason}")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        named_in_errors(target),
        tar.extractfile(member) as content,
        target.open("wb") as file,
    ):
        while True:
            with _reading(archive):
                chunk = content.read(CHUNK)
            if not chunk:
                return
            file.write(chunk)
