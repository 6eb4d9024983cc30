"""HTTP requests that append to a partial file what it lacks, until it is complete."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.parse import urlsplit

from utils.errors import UserError
from utils.progress import CHUNK, track_bytes

ATTEMPTS = 5
"""Requests in a row that bring nothing new before an address is given up."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 4.0
"""Seconds between two attempts: doubled each time, up to the longest."""

# some servers turn urllib's own name away
_USER_AGENT = "wseg-download"
# statuses that may pass by the next attempt
_PASSING = {408, 425, 429, *range(500, 600)}

Answer = HTTPResponse | urllib.error.HTTPError


class AddressError(Exception):
    """This address does not give the file; another one may."""


class _BrokenOffError(Exception):
    """The transfer broke off, or could not begin; it is worth another attempt."""


def fetch(url: str, part: Path, name: str, verified: bool) -> bool:
    """Bring all bytes to `part`, in as many requests as it takes while they bring something.

    Args:
        verified: whether a checksum will tell if the pieces belong to one file. If not, bytes that
            are held are kept only where the server's date says that its file is older than they.

    Returns whether the file was put together from more than one piece.
    """
    furthest = held_bytes(part)
    if furthest:
        print(f"{name}: going on with {part}, which holds {furthest} bytes", flush=True)
    failures = 0
    while True:
        try:
            return _request_rest(url, part, name, verified)
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


def held_bytes(part: Path) -> int:
    """How many of the first bytes of a file are there."""
    return part.stat().st_size if part.exists() else 0


def _request_rest(url: str, part: Path, name: str, verified: bool) -> bool:
    """Ask once for what `part` lacks and append it; True if it had a beginning that is kept."""
    held = held_bytes(part)
    with _connect(url, held) as response:
        offer = _offered(response, held)
        if offer is None or (offer[0] > 0 and not verified and not _is_older(response, part)):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server cannot go on where it stopped")
        start, size = offer
        if size is not None and size < held:
            # a page about quotas, say; taken for the file, it would replace the bytes that are held
            raise AddressError(
                f"the server gives {size} bytes, fewer than are held; delete {part} if the file "
                "has become shorter"
            )
        _require_space(part, size, name)
        if start == 0:
            if held:
                print(f"{name}: the server gives only the whole file; starting over", flush=True)
            part.write_bytes(b"")
        _append(response, part, size, name)
    return start > 0


def _connect(url: str, held: int) -> Answer:
    """The server's answer to a request for all but the `held` first bytes: 200, 206 or 416."""
    require_http(url)
    headers = {"User-Agent": _USER_AGENT, **({"Range": f"bytes={held}-"} if held else {})}
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


def _offered(response: Answer, held: int) -> tuple[int, int | None] | None:
    """The first byte that the answer brings, and the file's size, None if that is not known.

    None if the bytes do not go with the `held` first ones.
    """
    if response.status == 200:
        length = response.headers["Content-Length"]
        return 0, int(length) if length and length.isdecimal() else None
    found = (response.headers["Content-Range"] or "").strip()
    if response.status == 416:
        return (held, held) if held and found.replace(" ", "") == f"bytes*/{held}" else None
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", found)
    if not match or int(match[1]) != held:
        return None
    return held, int(match[2]) + 1 if match[3] == "*" else int(match[3])


def _is_older(response: Answer, part: Path) -> bool:
    """Whether the server's file has not been written since the bytes that are held of it."""
    try:
        written = parsedate_to_datetime(response.headers["Last-Modified"])
        return written.timestamp() <= part.stat().st_mtime
    except (TypeError, ValueError):  # it gives no date, or none that is one
        return False


def _append(response: Answer, part: Path, size: int | None, name: str) -> None:
    """Append the body to `part`, every piece at once, and never more than the file's size."""
    held = held_bytes(part)
    with track_bytes(size, name, held) as advance, part.open("ab") as file:
        while held != size:
            try:
                piece = response.read1(CHUNK if size is None else min(CHUNK, size - held))
            except (OSError, HTTPException) as error:
                raise _BrokenOffError(f"the connection broke after {held} bytes") from error
            if not piece:
                break
            file.write(piece)
            file.flush()
            held += len(piece)
            advance(len(piece))
        if size is not None and held < size:
            raise _BrokenOffError(f"the connection ended after {held} of {size} bytes")


def _require_space(part: Path, size: int | None, name: str) -> None:
    """Raise `UserError` if what is lacking of `size` bytes does not fit on the disk."""
    needed = (size or 0) - held_bytes(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{part.parent} has {free / 1e6:.0f} MB free, but {name} needs {needed / 1e6:.0f} MB "
            "more; make room there, or choose another folder"
        )
