"""What tests of downloads and of archives share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from download_case import CONTENT
from loopback_server import LoopbackServer

from utils import transfer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives are unpacked."""
    return tmp_path / "un packed" / "data"


@pytest.fixture
def server(monkeypatch) -> Iterator[LoopbackServer]:
    """A server with the file, asked without proxies, and again without waits."""
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with LoopbackServer({"data.tar": CONTENT}) as running:
        yield running


@pytest.fixture
def path(tmp_path) -> Path:
    """Where the file is to go; the folder is yet to be made."""
    return tmp_path / "a folder" / "data.tar"
