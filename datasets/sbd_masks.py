"""SBD's masks: from MATLAB files (GTcls.Segmentation) to palette PNGs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from tqdm import tqdm

from datasets.files import read_mask, write_mask
from datasets.layout import SBD
from datasets.records import PASCAL_VOC
from utils.errors import UserError


def convert_masks(root: Path, workers: int = 1) -> int:
    """Make cls_png/ID.png from every cls/ID.mat under `root`, in up to `workers` processes.

    PNGs that are there and decode are left alone. Returns how many were made. Raises `UserError`
    for a .mat that holds no valid mask.
    """
    ids = sorted(path.stem for path in (root / SBD.mat_folder).glob("*.mat"))
    convert = partial(convert_mask, root)
    progress = partial(tqdm, total=len(ids), desc="SBD masks", disable=None)
    if workers == 1:
        return sum(progress(map(convert, ids)))
    with ProcessPoolExecutor(workers) as pool:
        try:
            return sum(progress(pool.map(convert, ids, chunksize=64)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def convert_mask(root: Path, image_id: str) -> bool:
    """Make one PNG, unless it is there and decodes; True if it was made."""
    png = root / SBD.mask(image_id)
    if png.is_file() and _decodes(png):
        return False
    write_mask(png, read_sbd_mask(root / SBD.mat(image_id)), PASCAL_VOC.palette)
    return True


def read_sbd_mask(path: Path) -> np.ndarray:
    """GTcls.Segmentation of an SBD file as H×W uint8 class indices.

    Raises `UserError` where the file does not parse, has no such field, or has labels that are
    neither a class nor the ignore index.
    """
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
    except Exception as error:  # scipy's parser fails with whatever the broken bytes lead it to
        raise UserError(
            f"{path} is not an SBD mask (no GTcls.Segmentation in it); unpack SBD again"
        ) from error
    labels = [*range(PASCAL_VOC.num_classes), PASCAL_VOC.ignore_index]
    if mask.ndim != 2 or not np.isin(mask, labels).all():
        raise UserError(
            f"{path}: GTcls.Segmentation is not a map of labels below {PASCAL_VOC.num_classes} "
            f"(or {PASCAL_VOC.ignore_index}); unpack SBD again"
        )
    return mask.astype(np.uint8)


def _decodes(png: Path) -> bool:
    try:
        read_mask(png)
    except UserError:
        return False
    return True
