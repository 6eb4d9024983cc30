"""Small data sets of the real layout: as folders, archives, on a server, and brought from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from get_data_case import assert_done, get_data, mirror_of, pack
from loopback_server import LoopbackServer

from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.voc.archives import SBD_SOURCE, VOC_SOURCE


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-VOC that is not prepared; tests copy it."""
    root = tmp_path_factory.mktemp("drawn") / "mini"
    generate(root, MiniVocSettings(seed=1, train=24, val=20))
    return root


@pytest.fixture(scope="session")
def shipped(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders voc and sbd as if they were the real ones."""
    root = Path(shutil.copytree(drawn, tmp_path_factory.mktemp("shipped") / "mini"))
    (root / "mini_voc.json").unlink()
    return root


@pytest.fixture(scope="session")
def archives(shipped: Path) -> dict[str, Path]:
    """The two archives, by the names of the real ones."""
    folder = shipped.parent / "archives"
    folder.mkdir()
    return {
        VOC_SOURCE.filename: pack(folder / VOC_SOURCE.filename, shipped / "voc", "w"),
        SBD_SOURCE.filename: pack(folder / SBD_SOURCE.filename, shipped / "sbd", "w:gz"),
    }


@pytest.fixture
def server(archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackServer(archives) as server:
        yield server


@pytest.fixture
def mirror(server: LoopbackServer) -> dict[str, str]:
    """The variables that name the server's archives and what they hold."""
    return mirror_of(server)


@pytest.fixture(scope="session")
def ready(shipped: Path, archives: dict[str, Path]) -> Path:
    """The tree that one undisturbed run makes."""
    root = shipped.parent / "a data root"
    with LoopbackServer(archives) as server:
        assert_done(get_data(root, **mirror_of(server)))
    return root


@pytest.fixture
def copy(shipped: Path, tmp_path: Path) -> Path:
    """A user's copy of both data sets."""
    return Path(shutil.copytree(shipped, tmp_path / "data sets"))
