"""Image files that are damaged in every way that a seed comes to, and what reading them gives.

`python -m damaged_files FOLDER` reads every file below FOLDER as an image and as a mask, in one
process, and prints one line of JSON with what came of each.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.files import read_image, read_mask
from utils.errors import UserError

FORMATS = ("png", "jpg", "gif", "tiff", "bmp", "webp")


def whole_files() -> dict[str, bytes]:
    """A small image of each format, in colours and as indices with a palette."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    colours = coarse.resize((37, 29))
    indices = Image.fromarray(random.integers(0, 21, (29, 37), dtype=np.uint8))
    indices.putpalette(random.integers(0, 256, 768, dtype=np.uint8).tobytes())
    files = {}
    for suffix in FORMATS:
        for kind, image in (("rgb", colours), ("p", indices)):
            if kind == "p" and suffix in ("jpg", "webp"):
                continue
            data = io.BytesIO()
            image.save(data, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
            files[f"{kind}.{suffix}"] = data.getvalue()
    return files


def truncated(data: bytes, random: np.random.Generator, _: list[bytes]) -> bytes:
    return data[: random.integers(1, len(data))]


def flipped(data: bytes, random: np.random.Generator, _: list[bytes]) -> bytes:
    content = np.frombuffer(data, np.uint8).copy()
    places = random.integers(0, len(content), random.integers(1, 9))
    content[places] ^= random.integers(1, 256, len(places), dtype=np.uint8)
    return content.tobytes()


def damaged_at_the_front(data: bytes, random: np.random.Generator, _: list[bytes]) -> bytes:
    return flipped(data[:64], random, _) + data[64:]


def zeroed(data: bytes, random: np.random.Generator, _: list[bytes]) -> bytes:
    start = random.integers(0, len(data))
    stop = random.integers(start + 1, len(data) + 1)
    return data[:start] + bytes(stop - start) + data[stop:]


def huge(data: bytes, _: np.random.Generator, __: list[bytes]) -> bytes:
    """Width and height, wherever the format has them, of 65,280 or more pixels."""
    for width, height, size in ((b"\x25", b"\x1d", 1), (b"\x25\0", b"\x1d\0", 2)):
        for pair in (width + height, height + width):
            data = data.replace(pair, b"\xff" * (2 * size))
    wide, high = (37).to_bytes(4, "big"), (29).to_bytes(4, "big")
    data = data.replace(wide + high, b"\0\xff\0\0" * 2)
    data = data.replace((29).to_bytes(2, "big") + (37).to_bytes(2, "big"), b"\xff" * 4)
    wide, high = (37).to_bytes(4, "little"), (29).to_bytes(4, "little")
    return data.replace(wide, b"\xff\xff\0\0").replace(high, b"\xff\xff\0\0")


def of_another_type(_: bytes, random: np.random.Generator, files: list[bytes]) -> bytes:
    return files[random.integers(len(files))]


def text(_: bytes, __: np.random.Generator, ___: list[bytes]) -> bytes:
    return "no image but Grüße\n".encode()


def noise(_: bytes, random: np.random.Generator, __: list[bytes]) -> bytes:
    return random.integers(0, 256, 300, dtype=np.uint8).tobytes()


def without_bytes(_: bytes, __: np.random.Generator, ___: list[bytes]) -> bytes:
    return b""


def with_broken_palette(data: bytes, random: np.random.Generator, _: list[bytes]) -> bytes:
    """The palette renamed, cut to a length that is none, or its colours changed."""
    how = random.integers(3)
    start = data.find(b"PLTE")
    if start < 0:
        return flipped(data, random, _)
    if how == 0:
        return data.replace(b"PLTE", b"plTe")
    if how == 1:
        return data[: start - 4] + (7).to_bytes(4, "big") + data[start:]
    return data[: start + 4] + bytes(30) + data[start + 34 :]


DAMAGES: tuple[Callable[[bytes, np.random.Generator, list[bytes]], bytes], ...] = (
    truncated,
    flipped,
    damaged_at_the_front,
    zeroed,
    huge,
    of_another_type,
    text,
    noise,
    without_bytes,
    with_broken_palette,
)


def write_damaged(folder: Path, count: int, seed: int) -> list[Path]:
    """Write `count` damaged files, as many of each kind of damage, to `folder`."""
    random = np.random.default_rng(seed)
    files = whole_files()
    names, contents = list(files), list(files.values())
    paths = []
    for number in range(count):
        damage = DAMAGES[number % len(DAMAGES)]
        name = names[random.integers(len(names))]
        path = folder / f"{number:03d}_{damage.__name__}_{name}"
        path.write_bytes(damage(files[name], random, contents))
        paths.append(path)
    return paths


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    """Height and width of what was read, or the text of the error that a user sees."""
    try:
        return np.asarray(read(path)).shape[:2]
    except UserError as error:
        return str(error)


if __name__ == "__main__":
    found = {
        path.name: [outcome(read_image, path), outcome(read_mask, path)]
        for path in sorted(Path(sys.argv[1]).iterdir())
    }
    print(json.dumps(found))
