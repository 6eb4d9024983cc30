"""A web server on this machine for tests of downloads, with the faults that real ones have."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class LoopbackServer:
    """Serves `files` (name without the leading slash → content or its file) while it is entered.

    Attributes:
        url: where it listens, without a slash at the end.
        requests: (name, Range header or None) of each request, in order.
        files, and those that __init__ explains: may be changed at any time.
    """

    def __init__(self, files: dict[str, bytes | Path]) -> None:
        self.files = dict(files)
        self.requests: list[tuple[str, str | None]] = []
        # answer every request with this status
        self.status: int | None = None
        # answer the first requests with these, one each; None is an answer as usual
        self.statuses: list[int | None] = []
        # False: ignore ranges, and answer 200
        self.ranges = True
        # put into the 206's Content-Range instead of the first byte that was asked for
        self.wrong_start: int | None = None
        self.last_modified: str | None = None
        self.content_type = "application/x-tar"
        # cut off, or stall, so many answers after `drop_after` bytes of the body
        self.drops = 0
        self.stalls = 0
        self.drop_after = 1000
        # False: no Content-Length, the end of the connection ends the body
        self.length = True
        # send the body in chunks, without Content-Length
        self.chunked = False
        # what Content-Length says beyond the truth
        self.extra_length = 0
        # what is sent behind the body, though no header speaks of it
        self.tail = b""
        self.bytes_per_second: int | None = None
        self.closing = threading.Event()

    def __enter__(self) -> LoopbackServer:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.plan = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # a short poll, since leaving waits for it
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def content(self, name: str) -> bytes | None:
        content = self.files.get(name)
        return content.read_bytes() if isinstance(content, Path) else content


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    plan: LoopbackServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        plan = self.server.plan
        name = unquote(self.path).lstrip("/")
        plan.requests.append((name, self.headers["Range"]))
        self.close_connection = True
        content = plan.content(name)
        status = plan.statuses.pop(0) if plan.statuses else plan.status
        if status or content is None:
            self.send_error(status or 404)
            return
        start = self._start(plan)
        if start is not None and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            shown = start if plan.wrong_start is None else plan.wrong_start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", plan.content_type)
        if plan.last_modified:
            self.send_header("Last-Modified", plan.last_modified)
        if plan.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif plan.length:
            self.send_header("Content-Length", str(len(body) + plan.extra_length))
        self.end_headers()
        with suppress(ConnectionError):
            self._send(plan, body)

    def _start(self, plan: LoopbackServer) -> int | None:
        """The first byte that is asked for, or None for the whole file."""
        asked = self.headers["Range"]
        if asked is None or not plan.ranges:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, plan: LoopbackServer, body: bytes) -> None:
        stalls, drops = plan.stalls > 0, plan.drops > 0
        if stalls or drops:
            body = body[: plan.drop_after]
            plan.stalls -= stalls
            plan.drops -= drops and not stalls
        else:
            body += plan.tail
        step = 1 << 16
        if plan.bytes_per_second:
            step = max(plan.bytes_per_second // 50, 1)
        for first in range(0, len(body), step):
            piece = body[first : first + step]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if plan.chunked else piece)
            if plan.bytes_per_second:
                time.sleep(len(piece) / plan.bytes_per_second)
        if stalls:
            plan.closing.wait()
        elif plan.chunked and not drops:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
