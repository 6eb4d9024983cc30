"""Masks of COCO's images: its objects painted over each other, or the masks of somebody else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.coco import COCO
from datasets.coco.annotations import CocoImage, Instance, Rle, find_outside
from datasets.coco.errors import broken
from datasets.coco.layout import MASKS, SPLITS, VAL, Split
from datasets.files import write_mask
from utils.errors import UserError, python_command
from utils.files import remove_leftovers
from utils.processes import process_map
from utils.progress import LINES_IN_A_LOG, track

CHUNK = 32
"""Images that a process is given at a time."""


def require_pycocotools() -> None:
    """Raise `UserError`, with what installs it, where pycocotools is missing."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise UserError(
            "COCO's masks are painted with pycocotools, which is not installed; run "
            f"`{python_command('pip', 'install', 'pycocotools')}`"
        ) from error


def paint_mask(image: CocoImage) -> np.ndarray:
    """The class of each pixel: H×W uint8, 0 to 80, 255 in crowds that no object covers.

    Crowds are painted first, then objects by falling number of pixels (of `annToMask`, those that
    others hide too), so that smaller ones lie on top; of equal ones the later annotation does.

    Raises:
        ValueError: a shape does not fit the image.
    """
    if outside := find_outside(image):
        raise ValueError(outside)
    mask = np.zeros((image.height, image.width), np.uint8)
    objects = []
    for instance in image.instances:
        inside = pixels_of(instance, image.height, image.width)
        if instance.crowd:
            mask[inside] = COCO.ignore_index
        else:
            objects.append((inside, instance.label))
    # sorting keeps the order of equal ones
    for inside, label in sorted(objects, key=lambda pair: -np.count_nonzero(pair[0])):
        mask[inside] = label
    return mask


def pixels_of(instance: Instance, height: int, width: int) -> np.ndarray:
    """The pixels of an object, H×W bool: those of pycocotools' `annToMask`.

    Raises:
        ValueError: its runs are not of this size.
    """
    from pycocotools import mask as rasters  # not at the top: all else does without

    shape = instance.shape
    if isinstance(shape, Rle):
        counts = shape.counts.tolist()
        # runs that do not fill the mask leave random values in it
        fits = min(counts, default=0) >= 0 and sum(counts) == height * width
        if shape.size != (height, width) or not fits:
            raise ValueError(
                f"the runs of annotation {instance.id} do not fit {height}×{width} pixels"
            )
        runs = rasters.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        runs = rasters.merge(rasters.frPyObjects(shape, height, width))
    return rasters.decode(runs).astype(bool)


def paint_masks(root: Path, split: Split, images: Sequence[CocoImage], workers: int) -> int:
    """Write the masks of a split that are not there yet, in up to `workers` processes.

    Returns how many were written. Raises `UserError` for objects that do not fit their images.
    """
    require_pycocotools()
    remove_leftovers(root / split.masks, r".*\.png")
    missing = [image for image in images if not is_painted(root / mask_path(split, image), image)]
    every = -(-len(missing) // LINES_IN_A_LOG)
    with process_map(partial(_write, root, split), missing, workers, CHUNK) as written:
        for _ in track(written, len(missing), "mask", f"masks of {split.name}", every):
            pass
    return len(missing)


def mask_path(split: Split, image: CocoImage) -> Path:
    """The mask that is painted of an image, relative to the data root."""
    return split.masks / f"{Path(image.name).stem}.png"


def is_painted(path: Path, image: CocoImage) -> bool:
    """Whether there is a mask of the image's size; it was put there whole."""
    try:
        with Image.open(path) as mask:
            return mask.size == (image.width, image.height)
    except (OSError, SyntaxError):
        return False


def _write(root: Path, split: Split, image: CocoImage) -> None:
    try:
        mask = paint_mask(image)
    except ValueError as error:
        raise broken(root, split.annotations, str(error)) from error
    write_mask(root / mask_path(split, image), mask, COCO.palette)


def link_masks(root: Path, folder: Path) -> None:
    """Let masks that somebody has made, in `folder` or its folders train2014 and val2014, be used.

    Raises:
        UserError: there are none for val2014, or other masks are there already.
    """
    if not folder.is_dir():
        raise UserError(f"COCO_MASKS={folder}: there is no such folder; name another")
    found = {split: _folder_of_masks(folder, split) for split in SPLITS}
    if found[VAL] is None:
        raise UserError(
            f"COCO_MASKS={folder}: there are no masks of {VAL.name} here, as "
            f"{VAL.name}/COCO_{VAL.name}_000000000042.png; name their folder"
        )
    for split, given in found.items():
        link = root / split.masks
        if given is None or (link.is_symlink() and link.exists() and link.samefile(given)):
            continue
        if link.exists() or link.is_symlink():
            raise UserError(
                f"COCO_MASKS={folder}: there are other masks at {link}; remove these first"
            )
        (root / MASKS).mkdir(parents=True, exist_ok=True)
        link.symlink_to(given.absolute())
        print(f"{link} links to {given}")


def _folder_of_masks(folder: Path, split: Split) -> Path | None:
    """Where the masks of a split are; ids alone do not tell whose they are."""
    given = folder / split.name if (folder / split.name).is_dir() else folder
    named = any(split.name in name or name[:12].isdecimal() for name in _pngs(given))
    return given if named else None


def given_masks(root: Path, split: Split, images: Sequence[CocoImage]) -> dict[str, Path]:
    """The masks of somebody else, by the names of the images that they have one for.

    They are called as their images, or after the images' ids (12 digits).
    """
    present = _pngs(root / split.masks)
    names = {
        image.name: (f"{Path(image.name).stem}.png", f"{image.id:012d}.png") for image in images
    }
    return {
        name: split.masks / found
        for name, either in names.items()
        if (found := next((each for each in either if each in present), None))
    }


def _pngs(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name.endswith(".png")}  # noqa: PTH208
