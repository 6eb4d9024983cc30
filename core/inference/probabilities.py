"""Merged masks on disk, for those who tune a CRF or thresholds without the network."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import atomic_path


def save_probabilities(path: str | Path, merged: np.ndarray) -> None:
    """Write C×H×W float32 merged masks as a compressed .npz, in one step.

    It holds `masks` (K×H×W, those of the K classes that are not 0 everywhere), `classes` (their K
    indices) and `num_classes` (C). They stay float32: half of that would make near classes equal,
    and the argmax of what is read another one than what was written.
    """
    present = np.flatnonzero(merged.any(axis=(1, 2)))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, masks=merged[present], classes=present, num_classes=np.array(len(merged))
        )


def load_probabilities(path: str | Path) -> np.ndarray:
    """Read what `save_probabilities` has written: C×H×W float32 merged masks, background first.

    They are as the network's views were merged, after TEST.BG_POW; their argmax is ID.png (but
    where TEST.MIN_CONFIDENCE left a pixel out), and `utils.crf.crf_inference` takes them.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path) as file:
            masks, classes = file["masks"], file["classes"]
            whole = np.zeros((int(file["num_classes"]), *masks.shape[1:]), dtype=np.float32)
            whole[classes] = masks
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; infer_val.py --save-probabilities writes such files"
        ) from error
    except (OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise UserError(
            f"{path} cannot be read as merged masks ({error}); infer this image again with "
            "--save-probabilities"
        ) from error
    return whole
