"""Files of equal bytes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from pathlib import Path

from utils.files import file_digest

TAIL = 4096
"""Bytes at the end of a file that tell almost all images of one size apart."""


def find_copies(paths: Sequence[Path]) -> list[list[int]]:
    """Groups, of two or more each, of the numbers of files with equal bytes.

    Only what a cheap look does not tell apart is looked at more closely; few files are read whole.
    """
    links: dict[Hashable, list[int]] = defaultdict(list)  # names of one file on the disk
    for number, path in enumerate(paths):
        status = path.stat()
        links[status.st_dev, status.st_ino].append(number)
    groups = [list(links.values())]
    keys: tuple[Callable[[Path], Hashable], ...] = (_size, _tail, _digest)
    for key in keys:
        parts = []
        for group in groups:
            alike: dict[Hashable, list[list[int]]] = defaultdict(list)
            for numbers in group:
                # a group of one needs no look
                alike[key(paths[numbers[0]]) if len(group) > 1 else None].append(numbers)
            parts += alike.values()
        groups = parts
    copies = (sorted(chain.from_iterable(group)) for group in groups)
    return sorted(numbers for numbers in copies if len(numbers) > 1)


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(_size(path) - TAIL, 0), os.SEEK_SET)
        return file.read()


def _digest(path: Path) -> str:
    return file_digest(path, "sha256")
