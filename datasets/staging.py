"""Putting a data set together beside its place, so that it gets there in one step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError

# in the data root, while archives are downloaded and unpacked
DOWNLOADS = Path(".downloads")
STAGING = Path(".unpacking")


def clear_staging(root: Path) -> None:
    """Remove what a killed run left; a `UserError` if that is not of our making."""
    staging = root / STAGING
    if staging.is_symlink() or staging.is_file():
        raise UserError(f"{staging} is in the way of unpacking; remove it and run this again")
    if staging.exists():
        shutil.rmtree(staging)


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A fresh folder in the data root to put a data set together in, as if it were the root."""
    staging = root / STAGING
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging)
