"""Unpacking untrusted archives into a new folder, and nowhere else."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from utils.files import named_in_errors
from utils.progress import CHUNK, track_bytes

_GZIP_MAGIC = b"\x1f\x8b"
# of a member, and of the end of an archive without any
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 1


class ArchiveError(Exception):
    """The archive that the text names is damaged or unsafe."""


@dataclass(frozen=True)
class _Member:
    """A member of an archive.

    Attributes:
        name: its path as it stands there.
        is_folder: whether it is one.
        refusal: why it may not be made, whatever its path; "" if it may.
        open: gives its content; reading it fails where it is damaged.
    """

    name: str
    is_folder: bool
    refusal: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack a zip archive, or a tar archive, plain or with gzip, into the new folder `folder`.

    Only regular files and folders are made, only inside `folder`, and with the modes that the
    umask gives. After an error `folder` holds what had been unpacked.

    Args:
        archive: the file; its content tells what it is.
        folder: where the members go; made here, so that no link in it leads elsewhere.
        name: what users call the content.

    Raises:
        ArchiveError: the archive is damaged or cut off, or a member is a link or a device, is
            encrypted or lies outside of `folder`.
        OSError: something cannot be read or written, or there is a `folder` already.
    """
    total = archive.stat().st_size
    folder.mkdir(parents=True)
    with archive.open("rb") as source, track_bytes(total, f"unpacking {name}") as advance:
        members = _zip_members if source.peek(4)[:4] in _ZIP_MAGICS else _tar_members
        done = 0
        for member in members(source, archive):
            target = _target(member, folder, archive)
            try:
                _write(member, target, archive)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise _refusal(archive, member, "it is a file and a folder at once") from error
            # a zip's members need not lie in the order of its list
            advance(max(source.tell() - done, 0))
            done = max(source.tell(), done)
        advance(max(source.tell() - done, 0))


class _TarMember(tarfile.TarInfo):
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


def _tar_members(source: BinaryIO, archive: Path) -> Iterator[_Member]:
    compressed = source.peek(2)[:2] == _GZIP_MAGIC
    stream = gzip.GzipFile(fileobj=source) if compressed else source
    with _reading(archive):
        tar = tarfile.TarFile(fileobj=stream, tarinfo=_TarMember)
    while True:
        with _reading(archive):
            info = tar.next()
        if info is None:
            break
        refusal = ""
        if info.issym() or info.islnk():
            refusal = f"it is a link to {info.linkname!r}"
        elif not (info.isreg() or info.isdir()) or info.issparse():
            refusal = "it is neither a plain file nor a folder"
        yield _Member(info.name, info.isdir(), refusal, lambda info=info: tar.extractfile(info))
    with _reading(archive):
        # gzip's checksum stands behind the last byte, and tarfile has stopped before it
        while stream.read(CHUNK):
            pass


def _zip_members(source: BinaryIO, archive: Path) -> Iterator[_Member]:
    with _reading(archive):
        # the list of members stands at the end, so that one that is cut off has none
        packed = zipfile.ZipFile(source)
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the system had no modes
        refusal = ""
        if stat.S_ISLNK(kind):
            refusal = "it is a link"
        elif kind and kind != (stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
            refusal = "it is neither a plain file nor a folder"
        elif info.flag_bits & _ENCRYPTED:
            refusal = "it is encrypted"
        # zipfile shortens names with a NUL
        name = info.orig_filename
        yield _Member(name, info.is_dir(), refusal, lambda info=info: packed.open(info))


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what damaged bytes lead to (zlib.error, EOFError, ValueError, ...) into our error."""
    try:
        yield
    except Exception as error:
        reason = error or type(error).__name__
        raise ArchiveError(
            f"{archive} is damaged, cut off or neither tar nor zip ({reason})"
        ) from error


def _target(member: _Member, folder: Path, archive: Path) -> Path:
    """Where the member goes; an `ArchiveError` if it may not be made."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.refusal:
        raise _refusal(archive, member, member.refusal)
    outside = member.name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", member.name)
    if outside or re.search(r"[\\\0]", member.name):
        raise _refusal(archive, member, "its path leads out of the folder")
    if not member.name or (not member.is_folder and not parts):
        raise _refusal(archive, member, "it has no name")
    return folder.joinpath(*parts)


def _refusal(archive: Path, member: _Member, reason: str) -> ArchiveError:
    return ArchiveError(f"{archive} is not unpacked, for its member {member.name!r}: {reason}")


def _write(member: _Member, target: Path, archive: Path) -> None:
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _reading(archive):
        opened = member.open()
    with named_in_errors(target), opened as content, target.open("wb") as file:
        while True:
            with _reading(archive):
                chunk = content.read(CHUNK)
            if not chunk:
                return
            file.write(chunk)
