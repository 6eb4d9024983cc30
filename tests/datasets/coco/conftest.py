"""mini-COCO: as drawn, as prepared, as shipped, and on a server."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_server import LoopbackServer

from datasets.coco.archives import ARCHIVES
from datasets.coco.prepare import prepare_coco
from datasets.mini_voc.coco import MiniCocoSettings, generate_coco


@pytest.fixture(scope="session")
def drawn_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-COCO that is not prepared; tests copy it."""
    root = tmp_path_factory.mktemp("drawn coco") / "mini"
    generate_coco(root, MiniCocoSettings(seed=3, train=24, val=40))
    return root


@pytest.fixture(scope="session")
def prepared_coco(drawn_coco: Path) -> Path:
    root = Path(shutil.copytree(drawn_coco, drawn_coco.parent / "prepared"))
    prepare_coco(root)
    return root


@pytest.fixture
def coco_copy(prepared_coco: Path, tmp_path: Path) -> Path:
    """A prepared mini-COCO that a test may damage."""
    return Path(shutil.copytree(prepared_coco, tmp_path / "data"))


@pytest.fixture(scope="session")
def shipped_coco(drawn_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's parts as if they were the real ones, captions among them."""
    root = Path(shutil.copytree(drawn_coco / "coco", tmp_path_factory.mktemp("shipped") / "coco"))
    (root / "annotations/captions_val2014.json").write_text("{}")
    return root


@pytest.fixture(scope="session")
def coco_archives(shipped_coco: Path) -> dict[str, Path]:
    """The archives' contents by their addresses."""
    found = {}
    for archive in ARCHIVES:
        file = shipped_coco.parent / archive.filename
        with zipfile.ZipFile(file, "w") as packed:
            for path in sorted((shipped_coco / archive.path.name).iterdir()):
                packed.write(path, f"{archive.path.name}/{path.name}")
        found[archive.address] = file
    return found


@pytest.fixture
def coco_server(
    coco_archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackServer(coco_archives) as server:
        server.content_type = "application/zip"
        # earlier than whatever is held of it
        server.last_modified = "Wed, 01 Jan 2014 00:00:00 GMT"
        yield server
