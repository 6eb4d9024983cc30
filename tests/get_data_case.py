"""launch/get_data.sh as users run it, and what its tests ask about a data root."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from in_process import run_main
from loopback_server import LoopbackServer
from PIL import Image

from datasets.voc import get_data as module
from datasets.voc.archives import SBD_SOURCE, VOC_SOURCE

REPOSITORY = Path(__file__).resolve().parents[1]
VOC = Path("voc/VOCdevkit/VOC2012")
VOC_TEST = Path("voc_test/VOCdevkit/VOC2012")
SBD = Path("sbd/benchmark_RELEASE/dataset")
LISTS = ("train_augvoc.txt", "train_voc.txt", "val_voc.txt")
SOURCES = {"VOC": VOC_SOURCE, "SBD": SBD_SOURCE}


def command(root: Path | str, *arguments: str, **variables: object) -> dict[str, Any]:
    """What subprocess needs to run the script as in a shell with these variables."""
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        "args": ["bash", str(REPOSITORY / "launch/get_data.sh"), *arguments],
        "env": base
        | {"PYTHON": sys.executable, "DATA_ROOT": str(root), "NO_PROXY": "127.0.0.1"}
        | {name: str(value) for name, value in variables.items()},
        "text": True,
    }


def add_test_set(root: Path, names: Sequence[str]) -> None:
    """Draw VOC's test set into a data root: images, and their ids in this order."""
    images, id_list = root / VOC_TEST / "JPEGImages", VOC_TEST / "ImageSets/Segmentation/test.txt"
    images.mkdir(parents=True)
    (root / id_list).parent.mkdir(parents=True)
    (root / id_list).write_text("".join(f"{name}\n" for name in names))
    for name in names:
        Image.new("RGB", (40, 30)).save(images / f"{name}.jpg")


def get_data(
    root: Path | str, *arguments: str, **variables: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        **command(root, *arguments, **variables), capture_output=True, timeout=300
    )


def call_get_data(
    root: Path, *arguments: str, **variables: object
) -> subprocess.CompletedProcess[str]:
    """What the script starts, sooner: in this process, which has imported everything."""
    options = (f"--{k.lower().replace('_', '-')}={v}" for k, v in variables.items())
    return run_main(module.main, f"--root={root}", *options, *arguments)


def mirror_of(server: LoopbackServer) -> dict[str, str]:
    """The variables that name a server's archives and what they hold."""
    return {
        f"{variable}_{what}": value
        for variable, source in SOURCES.items()
        for what, value in (
            ("URL", f"{server.url}/{source.filename}"),
            ("MD5", md5_of(server.content(source.filename))),
        )
    }


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def assert_done(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout + result.stderr


def assert_refused(result: subprocess.CompletedProcess[str], *named: object) -> None:
    """The command ended in one line that names all these."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == result.stderr.splitlines()[-1:]
    assert "Traceback" not in result.stderr
    for text in named:
        assert str(text) in lines[0]


def assert_empty(root: Path) -> None:
    """Nothing but what an unfinished download goes on with was left in the data root."""
    left = [path for path in root.rglob("*") if path != root / ".downloads"]
    assert all(path.match(".downloads/*.part*") for path in left), left


def tree(root: Path) -> dict[str, str | bool]:
    """Every file below `root` by its content, and every folder."""
    return {
        str(path.relative_to(root)): md5_of(path.read_bytes()) if path.is_file() else path.is_dir()
        for path in root.rglob("*")
    }


def pack(archive: Path, folder: Path, mode: str) -> Path:
    """An archive of what the folder holds, as the real ones are packed."""
    with tarfile.open(archive, mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive
