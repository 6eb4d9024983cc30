"""Reading images and masks, and writing masks, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from datasets.images import decode, decode_whole, orientation, read_header, to_rgb, turned_size
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError, reason
from utils.files import atomic_path

T = TypeVar("T")

MISPAIRED = "the list pairs them wrongly, or one of them was resized"
"""Why a mask and its image may differ in size; the end of error messages."""

# Pillow's names of palette and grey images, whose values are indices
INDEX_MODES = ("P", "L")
_NO_INDICES = {"1": "is black and white", "RGB": "holds colours", "RGBA": "holds colours"}


def read_image(path: str | Path, exif: bool = True) -> Image.Image:
    """Open an image as RGB, with `exif` turned as its EXIF orientation says.

    What is transparent is seen on white. A `UserError` names a file that is missing, does not
    decode, or holds no colours.
    """
    return _read_image(path, exif)[0]


def _read_image(path: str | Path, exif: bool) -> tuple[Image.Image, Image.Transpose | None]:
    """The image and how it was turned."""
    stored = _open(path, "image", decode)
    turn = orientation(stored) if exif else None
    image = stored if turn is None else stored.transpose(turn)
    try:
        return to_rgb(image), turn
    except OSError as error:
        raise _unreadable(path, "image", error) from error


def read_mask(path: str | Path) -> np.ndarray:
    """Open a label mask as H×W uint8 class indices (palette or grey PNG).

    Raises `UserError` for a file that is missing, does not decode, or holds colours in place of
    indices.
    """
    # damage that decoders do not notice would be other classes
    image = _open(path, "mask", decode_whole)
    if image.mode not in INDEX_MODES:
        what = _NO_INDICES.get(image.mode, f"is of Pillow's mode {image.mode}")
        raise UserError(
            f"mask {path} {what}; masks are palette or grey PNGs whose values are class indices"
        )
    return np.array(image, dtype=np.uint8)


def write_mask(path: str | Path, mask: np.ndarray, palette: tuple[int, ...]) -> None:
    """Write an H×W array of class indices (0 to 255) as a palette PNG, in one step."""
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(palette)  # turns the grey image into a palette image with the same values
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def labels_of_mask(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Image-level labels: a float32 vector of `num_classes` − 1 zeros and ones.

    Entry c − 1 is 1 where class c occurs in the H×W `mask`; background and every value from
    `num_classes` up (the ignore index) are left out.
    """
    counts = np.bincount(mask.reshape(-1), minlength=num_classes)
    return (counts[1:num_classes] > 0).astype(np.float32)


def find_strange(values: np.ndarray, info: DatasetInfo) -> str:
    """Which of a mask's values are neither a class nor the ignore index, in words; "" if none.

    Args:
        values: uint8 of any shape: a mask, or the values that occur in one.
        info: the data set that says what values mean.
    """
    # most masks are done with this comparison, the fastest of all
    if values.max(initial=0) < info.num_classes:
        return ""
    strange = np.unique(values[(values >= info.num_classes) & (values != info.ignore_index)])
    if not strange.size:
        return ""
    return (
        f"holds {', '.join(map(str, strange[:3]))}; values are classes, 0 to "
        f"{info.num_classes - 1}, or {info.ignore_index}"
    )


def require_classes(mask: np.ndarray, path: Path, info: DatasetInfo) -> None:
    """Raise `UserError` unless the values of a mask are classes or the ignore index."""
    if strange := find_strange(mask, info):
        raise UserError(f"mask {path} {strange}; convert it to class indices")


def read_pair(entry: ListEntry) -> tuple[Image.Image, np.ndarray]:
    """Open an entry's image, as `read_image` does, and its mask, as H×W uint8 of the same size.

    Masks are made of images as they are stored or as they are seen. So where an image is turned, a
    mask that fits what is stored is turned with it.

    Raises `UserError` where one of them cannot be read, or their sizes differ.
    """
    image, turn = _read_image(entry.image, entry.exif)
    size = image.height, image.width
    mask = _turn_mask(read_mask(entry.mask), turned_size(size, turn), turn)
    if mask.shape != size:
        raise UserError(f"{describe_misfit(entry, mask.shape, size)}; {MISPAIRED}")
    return image, mask


def read_ground_truth(entry: ListEntry) -> np.ndarray:
    """An entry's mask as `read_pair` gives it, of whatever size; no pixels of its image are read.

    Masks can be compared without their images: if there is none, the mask stays as it is stored.
    Raises `UserError` for files that cannot be read.
    """
    mask = read_mask(entry.mask)
    if not entry.exif or not entry.image.exists():
        return mask
    return _turn_mask(mask, *_open(entry.image, "image", lambda path: read_header(path, exif=True)))


def find_misfit(entry: ListEntry, shape: tuple[int, ...]) -> str:
    """How a mask of this H×W shape and its entry's image differ in size; "" if they do not.

    No pixels of the image are read. Raises `UserError` if that is not possible.
    """
    size, _ = _open(entry.image, "image", lambda path: read_header(path, exif=False))
    if size != shape and entry.exif:
        size, turn = _open(entry.image, "image", lambda path: read_header(path, exif=True))
        size = turned_size(size, turn)
    return "" if size == shape else describe_misfit(entry, shape, size)


def describe_misfit(entry: ListEntry, shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """An entry whose mask is of another H×W `shape` than its image, in words."""
    mask, image = ("×".join(map(str, sides)) for sides in (shape, size))
    return f"mask {entry.mask} is {mask} (height×width), its image {entry.image} {image}"


def _turn_mask(
    mask: np.ndarray, stored: tuple[int, int], turn: Image.Transpose | None
) -> np.ndarray:
    if turn is None or mask.shape != stored:
        return mask
    return np.array(Image.fromarray(mask).transpose(turn))


def _open(path: str | Path, kind: str, decoder: Callable[[str | Path], T]) -> T:
    try:
        return decoder(path)
    except MemoryError as error:
        raise UserError(
            f"memory is short for {kind} {path}; make it smaller, or lower TRAIN.NUM_WORKERS "
            "(--workers)"
        ) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{kind} {path} does not exist; the paths in a list start at the data root (--data, "
            "DATASET.PATH, TEST.DATA_ROOT): is it the right one?"
        ) from error
    except OSError as error:
        raise _unreadable(path, kind, error) from error


def _unreadable(path: str | Path, kind: str, error: OSError) -> UserError:
    return UserError(f"{kind} {path} cannot be read ({reason(error)}); replace it")
