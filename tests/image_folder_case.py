"""Folders of tiny images, and labels of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image


def write_images(folder: Path, names: Iterable[str], first: int = 0) -> Path:
    """Write a picture of its own, numbered from `first`, for each name; return the folder."""
    for number, name in enumerate(names, start=first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (number % 256, number // 256, 5)).save(path, format="PNG")
    return folder


def write_rows(path: Path, objects: Mapping[str, Iterable[str]]) -> Path:
    """Write labels as rows, without quotes."""
    path.write_text("".join(",".join([name, *found]) + "\n" for name, found in objects.items()))
    return path


def numbered(count: int, objects: Iterable[str] = ("cat",)) -> dict[str, list[str]]:
    """Labels of `count` images 0.png, 1.png, …, of which every other one has the objects."""
    return {f"{number}.png": list(objects) if number % 2 else [] for number in range(count)}
