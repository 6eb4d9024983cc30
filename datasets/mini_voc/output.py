"""Writing to a folder only what it does not hold yet, told by a marker file in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.files import atomic_path, only_process, write_text

JPEG_QUALITY = 92
MIN_IMAGES = 20
MAX_IMAGES = 5000


def write_once(
    out: Path,
    marker: Path,
    made: Mapping[str, int],
    files: Sequence[Path],
    earlier: Sequence[str],
    draw: Callable[[], None],
) -> None:
    """Let `draw` write mini-VOC under `out`, unless it is there already, whole and made alike.

    The marker says what `out` holds. It is written before anything is touched and again, as
    complete, after the last file: an interrupted or differently made mini-VOC is replaced, and so
    is one that has lost files. Raises `UserError` for a folder that holds anything else, and while
    another process is at work there.

    Args:
        out: the folder, made if need be.
        marker: the marker file, relative to `out`.
        made: what decides the files' content, the seed among it.
        files: all that `draw` writes, relative to `out`.
        earlier: files and folders directly in `out` that are removed before; all else stays.
        draw: writes the files.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    with only_process(out, "datasets.mini_voc"):
        if _holds(out, marker) == {**made, "complete": True}:
            missing = [path for path in files if not (out / path).is_file()]
            if not missing:
                print(f"{out} already holds this mini-VOC (seed {made['seed']}): nothing to do")
                return
            print(
                f"{out} has lost {len(missing)} files, {missing[0]} for one: drawing mini-VOC anew"
            )
        write_text(out / marker, json.dumps({**made, "complete": False}) + "\n")
        for path in (out / name for name in earlier):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        draw()
        write_text(out / marker, json.dumps({**made, "complete": True}) + "\n")


def require_settings(seed: int, **numbers: int) -> None:
    """Raise `UserError` unless the seed and the numbers of images, by their options, are usable."""
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; give a whole number from 0")
    for name, value in numbers.items():
        if not MIN_IMAGES <= value <= MAX_IMAGES:
            raise UserError(f"--{name} {value} is not between {MIN_IMAGES} and {MAX_IMAGES}")


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an H×W×3 uint8 image in one step."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=JPEG_QUALITY)


def _holds(out: Path, marker: Path) -> dict | None:
    """What the marker in `out` says; None where `out` is empty."""
    if not any(out.iterdir()):
        return None
    try:
        return json.loads((out / marker).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--out {out} is not empty and no mini-VOC of this layout (it has no readable "
            f"{marker}); give a new or empty folder"
        ) from error
