"""SBD's masks: from MATLAB files (GTcls.Segmentation) to palette PNGs."""

from __future__ import annotations

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from datasets.files import read_mask, write_mask
from datasets.voc import PASCAL_VOC
from datasets.voc.errors import DataError, how_to_restore, missing
from datasets.voc.layout import SBD
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.processes import process_map
from utils.progress import track

# MATLAB 5 files: bytes before the first element, and the kind of element that holds others
_MAT_HEADER = 128
_MAT_COMPRESSED = 15


def convert_masks(root: Path, workers: int = 1) -> int:
    """Make cls_png/ID.png from every cls/ID.mat under `root`, in up to `workers` processes.

    PNGs that are there and decode are left alone. Returns how many were made. Raises `UserError`
    for a .mat that holds no valid mask.
    """
    ids = mat_ids(root)
    remove_leftovers(root / SBD.png_folder, r".*\.png")
    with process_map(partial(convert_mask, root), ids, workers, chunksize=32) as made:
        return sum(track(made, len(ids), "mask", "SBD masks", every=1000))


def mat_ids(root: Path) -> list[str]:
    """The ids of the MATLAB masks that are there, sorted."""
    paths = (root / SBD.mat_folder).glob("*.mat")
    # hidden files are what tar on macOS adds to each of the others
    return sorted(path.stem for path in paths if not path.name.startswith("."))


def convert_mask(root: Path, image_id: str) -> bool:
    """Make one PNG, unless it is there and decodes; True if it was made."""
    png = root / SBD.mask(image_id)
    if png.is_file() and _decodes(png):
        return False
    write_mask(png, read_sbd_mask(root, image_id), PASCAL_VOC.palette)
    return True


def read_sbd_mask(root: Path, image_id: str) -> np.ndarray:
    """GTcls.Segmentation of an SBD file as H×W uint8 class indices.

    Raises `DataError` where the file is missing, does not parse, has no such field, or has labels
    that are neither a class nor the ignore index; `PermissionError` where it may not be read.
    """
    path = SBD.mat(image_id)
    try:
        content = (root / path).read_bytes()
        _require_whole_streams(content)
        found = loadmat(io.BytesIO(content), variable_names=["GTcls"])
        mask = found["GTcls"][0, 0]["Segmentation"]
    except FileNotFoundError as error:
        raise missing(root, path) from error
    except PermissionError:
        raise
    except Exception as error:  # scipy's parser fails with whatever the broken bytes lead it to
        problem = "this is not an SBD mask (no GTcls.Segmentation in it)"
        raise DataError(root / path, problem, how_to_restore(root, path)) from error
    labels = [*range(PASCAL_VOC.num_classes), PASCAL_VOC.ignore_index]
    if mask.ndim != 2 or mask.size == 0 or not np.isin(mask, labels).all():
        problem = (
            f"GTcls.Segmentation is not a map of labels below {PASCAL_VOC.num_classes} (or "
            f"{PASCAL_VOC.ignore_index})"
        )
        raise DataError(root / path, problem, how_to_restore(root, path))
    return mask.astype(np.uint8)


def _require_whole_streams(content: bytes) -> None:
    """Raise an error unless zlib takes every compressed element of a MATLAB 5 file, checksum too.

    scipy parses what comes out of an element before its checksum is reached, and broken bytes there
    can end the process.
    """
    order = "<" if content[126:128] == b"IM" else ">"
    position = _MAT_HEADER
    while position < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        position += 8
        if kind == _MAT_COMPRESSED:
            stream = zlib.decompressobj()
            stream.decompress(content[position : position + size])
            if not stream.eof:
                raise ValueError("a compressed element is cut off")
        position += size


def _decodes(png: Path) -> bool:
    try:
        read_mask(png)
    except UserError:
        return False
    return True
