"""Reading file lists, images and masks, and writing masks, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from datasets.images import decode, decode_whole, orientation, read_header, to_rgb, turned_size
from datasets.info import PASCAL_VOC, DatasetInfo
from utils.errors import UserError
from utils.files import atomic_path

T = TypeVar("T")

MISPAIRED = "the list pairs them wrongly, or one of them was resized"
"""Why a mask and its image may differ in size; the end of error messages."""

# Pillow's names of palette and grey images, whose values are indices
INDEX_MODES = ("P", "L")
_NO_INDICES = {"1": "is black and white", "RGB": "holds colours", "RGBA": "holds colours"}


@dataclass(frozen=True)
class ListEntry:
    """One line of a file list.

    Attributes:
        image: the image's path.
        mask: the ground-truth mask's path, or None where the list has no mask column.
        exif: whether the image is turned as its EXIF orientation says (`DatasetInfo.turns`).
    """

    image: Path
    mask: Path | None
    exif: bool = True

    @property
    def id(self) -> str:
        """The image's file name without its extension; results are named after it."""
        return self.image.stem


def read_list(
    path: str | Path, root: str | Path, info: DatasetInfo = PASCAL_VOC
) -> list[ListEntry]:
    """Read a file list: a line an image, `IMAGE MASK` or `IMAGE`, relative to `root`.

    A leading slash and blank lines are tolerated; `info` says whether images are turned. Raises
    `UserError` for a list that is missing, empty, or has a line of more than two columns.
    """
    path, root = Path(path), Path(root)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise ValueError("it is no text")
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the file list {path} ({reason(error)}); "
            f"{info.remedy_for_list(path, root)}"
        ) from error

    entries: list[ListEntry] = []
    for number, line in enumerate(lines, start=1):
        columns = list_columns(line)
        if not columns:
            continue
        if len(columns) > 2:
            raise UserError(
                f"{path}, line {number}: expected `IMAGE MASK`, found {line!r}; names with spaces "
                "cannot be listed"
            )
        image, *mask = (root / column for column in columns)
        entries.append(ListEntry(image, mask[0] if mask else None, info.turns(image)))
    if not entries:
        raise UserError(f"the file list {path} is empty")
    return entries


def list_columns(line: str) -> tuple[Path, ...]:
    """The paths in a line of a file list, which start at the data root with or without a slash."""
    return tuple(Path(column.lstrip("/")) for column in line.split())


def require_unique_ids(
    entries: Sequence[ListEntry], path: str | Path, ignore_case: bool = False
) -> None:
    """Raise `UserError` where two images of the list or folder `path` share an id.

    Results are named after ids: those of the second image would overwrite those of the first, with
    `ignore_case` also where the ids differ in nothing but capital letters.
    """
    seen: dict[str, Path] = {}
    for entry in entries:
        name = entry.id.casefold() if ignore_case else entry.id
        other = seen.setdefault(name, entry.image)
        if other is not entry.image:
            raise UserError(
                f"{path}: {other} and {entry.image} would write the same result {entry.id}.png; "
                "remove or rename one of them"
            )


def require_masks(entries: Sequence[ListEntry], remedy: str, lack: str = "no ground truth") -> None:
    """Raise `UserError` where a line of a list has no mask column.

    The message begins with `lack`, what that means to the caller, and ends in `remedy`.
    """
    for entry in entries:
        if entry.mask is None:
            raise UserError(
                f"{lack} for {entry.image}: the list has no mask column there; {remedy}"
            )


def require_files(entries: Sequence[ListEntry], root: str | Path, info: DatasetInfo) -> None:
    """Raise `UserError`, which names the first, where images or masks of a list are missing.

    No file is opened, so this is quick.

    Args:
        entries: the list.
        root: the data root.
        info: knows the commands that help where its own files are missing.
    """
    named = [
        (kind, path)
        for entry in entries
        for kind, path in (("image", entry.image), ("mask", entry.mask))
        if path is not None
    ]
    missing = [(kind, path) for kind, path in named if _is_missing(path)]
    if missing:
        kind, path = missing[0]
        others = f", nor do {len(missing) - 1} more" if len(missing) > 1 else ""
        remedy = info.remedy_for_file(path, Path(root))
        raise UserError(
            f"{kind} {path} does not exist{others} of the {len(named)} files that the list names; "
            f"check the data root (DATASET.PATH, TEST.DATA_ROOT){remedy and f', or {remedy}'}"
        )


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it is there in some way; opening it will say which
    return False


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


def reason(error: Exception) -> str:
    """What an error says, as part of another message."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
