"""One file that tests download, and what they ask about it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_server import LoopbackServer

from utils.download import Checksum, download
from utils.errors import UserError

# no piece of it equals another, so that a piece in the wrong place shows
CONTENT = b"".join(b"%07d\n" % number for number in range(3000))
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())

_COMMAND = """
import sys
from pathlib import Path
from utils.download import Checksum, download
from utils.errors import run_command
url, path, md5 = sys.argv[1:]
run_command(lambda: download([url], Path(path), "the data", Checksum("md5", md5)))
"""


def fetch(
    server: LoopbackServer,
    path: Path,
    checksum: Checksum | None = MD5,
    check: Callable[[Path], None] | None = None,
) -> None:
    download([f"{server.url}/data.tar"], path, "the data", checksum, check)


def start(url: str, path: Path, **options: Any) -> subprocess.Popen[str]:
    """A process that downloads the file from `url`."""
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, url, str(path), MD5.digits],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def part_of(path: Path) -> Path:
    return path.with_name("data.tar.part")


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def ranges(server: LoopbackServer) -> list[str | None]:
    return [asked for _, asked in server.requests]


def break_off(server: LoopbackServer, path: Path, held: int = 9000) -> None:
    """A call that ends with `held` bytes in the .part, since its second request is refused."""
    server.statuses, server.drops, server.drop_after = [None, 404], 1, held
    with pytest.raises(UserError, match=f"{held} bytes are kept in .*data.tar.part"):
        fetch(server, path)
    assert part_of(path).read_bytes() == CONTENT[:held]
    server.requests.clear()
