"""What tests of archives share, whatever their kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from utils.archives import ArchiveError, unpack


def files_under(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, folder: Path) -> str:
    """The text of the error, after which nothing is left outside of the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, folder, "the data")
    assert str(archive) in str(caught.value)
    assert list(folder.parent.iterdir()) == [folder]
    assert not (folder.parents[1] / "outside").exists()
    return str(caught.value)
