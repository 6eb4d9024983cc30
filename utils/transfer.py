"""Requests that append to a file what it lacks, until all of it is there."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.parse import urlsplit

from utils.errors import UserError
from utils.progress import CHUNK, track_bytes

ATTEMPTS = 5
"""So many requests in a row may bring nothing new before an address is given up."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 4.0
"""Seconds between two attempts: doubled each time, up to the longest."""

# some servers turn urllib's own name away
_USER_AGENT = "wseg-download"
# statuses that may be gone at the next attempt
_PASSING = {408, 425, 429, *range(500, 600)}


class AddressError(Exception):
    """This address does not give the file; another one may."""


class _BrokenOffError(Exception):
    """The transfer broke off, or could not begin; it is worth another attempt."""


@dataclass(frozen=True)
class _Span:
    """The bytes of the file that an answer brings: [start, end) of `size`, None if not known."""

    start: int
    end: int | None
    size: int | None


def fetch(url: str, part: Path, name: str) -> bool:
    """Bring all bytes to `part`, in as many attempts as it takes while they bring something.

    Returns:
        Whether the file was put together from more than one connection.
    """
    furthest = held_bytes(part)
    if furthest:
        print(f"{name}: going on with {part}, which holds {furthest} bytes", flush=True)
    failures = 0
    while True:
        try:
            return _transfer(url, part, name)
        except _BrokenOffError as error:
            # bytes that were held before are no progress, or a server that refuses ranges and
            # breaks off would be asked for ever
            failures = 0 if held_bytes(part) > furthest else failures + 1
            furthest = max(furthest, held_bytes(part))
            if failures == ATTEMPTS:
                raise AddressError(f"{error}, {ATTEMPTS} times in a row") from error
            print(f"{name}: {error}; trying again", flush=True)
            time.sleep(min(FIRST_WAIT * 2**failures, LONGEST_WAIT))


def require_http(url: str) -> None:
    """Raise `AddressError` unless `url` is an http or https address."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0  # a port that is no number is an error
    except ValueError as error:
        raise AddressError(f"not a valid address, {error}") from error
    if parts.scheme not in ("http", "https") or not named:
        raise AddressError("not an http or https address")


def finish(part: Path, path: Path) -> None:
    """Give the whole file its name; without a validator at `path` if the process is killed."""
    _validator_path(part).unlink(missing_ok=True)
    part.replace(path)


def discard(part: Path) -> None:
    """Remove what is held of a file."""
    part.unlink(missing_ok=True)
    _validator_path(part).unlink(missing_ok=True)


def held_bytes(part: Path) -> int:
    """How many of the first bytes of a file are there."""
    return part.stat().st_size if part.exists() else 0


def _transfer(url: str, part: Path, name: str) -> bool:
    """Ask once for what `part` lacks and append it; True if it had a beginning that is kept."""
    held = held_bytes(part)
    validator = _read_validator(part)
    headers = {"User-Agent": _USER_AGENT}
    if held:
        headers["Range"] = f"bytes={held}-"
        if validator:
            headers["If-Range"] = validator
    with _open(url, headers) as response:
        span = _span(response, held, validator)
        if span is None:
            discard(part)
            raise _BrokenOffError("the server cannot go on where it stopped")
        if span.end is not None and span.end < held:
            # a page about quotas, say; taken for the file, it would replace the bytes that are held
            raise AddressError(
                f"the server gives {span.end} bytes, fewer than are held; delete {part} if the "
                "file has become shorter"
            )
        _require_space(part, span.size, name)
        if span.start == 0:
            if held:
                print(f"{name}: the server gives only the whole file; starting over", flush=True)
            _begin(part, _validator(response))
        _receive(response, span, part, name)
    return span.start > 0


def _open(url: str, headers: dict[str, str]) -> HTTPResponse | urllib.error.HTTPError:
    """The server's answer, if its status is 200, 206 or 416."""
    require_http(url)
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        response = error
    except (ValueError, InvalidURL) as error:
        raise AddressError(f"not a valid address, {error}") from error
    except urllib.error.URLError as error:
        # a text, not an exception, is urllib's word for an address that it cannot use
        reason = error.reason
        unknown = isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN
        if unknown or isinstance(reason, (str, ssl.SSLCertVerificationError)):
            raise AddressError(f"no connection, {reason}") from error
        raise _BrokenOffError(f"no connection, {reason}") from error
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(f"no answer, {error!r}") from error
    if response.headers.get_content_type() == "text/html" and response.status == 200:
        # a login or error page; taken for the file, it would replace the bytes that are held
        response.close()
        raise AddressError("the server gives a web page in the file's place")
    if response.status in (200, 206, 416):
        return response
    response.close()
    answer = f"the server answered {response.status} {response.reason}"
    if response.status in _PASSING:
        raise _BrokenOffError(answer)
    raise AddressError(answer)


def _span(
    response: HTTPResponse | urllib.error.HTTPError, held: int, validator: str | None
) -> _Span | None:
    """Which bytes the answer brings, or None if they do not go with the `held` first ones."""
    length = response.headers["Content-Length"]
    if response.status == 200:
        size = int(length) if length and length.isdecimal() else None
        return _Span(0, size, size)
    found = response.headers["Content-Range"] or ""
    if response.status == 416:
        whole = held > 0 and found.replace(" ", "") == f"bytes*/{held}"
        return _Span(held, held, held) if whole else None
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", found.strip())
    if not match or int(match[1]) != held or _contradicts(response, validator):
        return None
    end = int(match[2]) + 1
    return _Span(held, end, end if match[3] == "*" else int(match[3]))


def _receive(response: HTTPResponse, span: _Span, part: Path, name: str) -> None:
    """Append the body to `part`, every piece at once, and never more than was promised."""
    held = span.start
    with track_bytes(span.size, name, held) as advance, part.open("ab") as file:
        while held != span.end:
            try:
                piece = response.read1(CHUNK if span.end is None else min(CHUNK, span.end - held))
            except (OSError, HTTPException) as error:
                raise _BrokenOffError(f"the connection broke after {held} bytes") from error
            if not piece:
                break
            file.write(piece)
            file.flush()
            held += len(piece)
            advance(len(piece))
        if span.size is not None and held < span.size:
            raise _BrokenOffError(f"the connection ended after {held} of {span.size} bytes")


def _validator(response: HTTPResponse) -> str | None:
    """What tells this version of the server's file from others: its strong ETag, or its date."""
    etag = response.headers["ETag"]
    return etag if etag and etag.startswith('"') else response.headers["Last-Modified"]


def _contradicts(response: HTTPResponse, validator: str | None) -> bool:
    """Whether a server that paid no heed to If-Range gives another version."""
    if validator is None:
        return False
    found = response.headers["ETag" if validator.startswith('"') else "Last-Modified"]
    return found not in (None, validator)


def _validator_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def _read_validator(part: Path) -> str | None:
    path = _validator_path(part)
    # a header's own encoding, in which no byte is wrong
    return path.read_text(encoding="latin-1").strip() or None if path.is_file() else None


def _begin(part: Path, validator: str | None) -> None:
    """Make `part` empty, and only then note the validator of what it is going to hold."""
    part.write_bytes(b"")
    _validator_path(part).write_text(validator or "", encoding="latin-1")


def _require_space(part: Path, size: int | None, name: str) -> None:
    """Raise `UserError` if what is lacking of `size` bytes does not fit on the disk."""
    needed = (size or 0) - held_bytes(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{part.parent} has {free / 1e6:.0f} MB free, but {name} needs {needed / 1e6:.0f} MB "
            "more; make room there, or choose another folder"
        )
