"""Masks against ground truth: one histogram of label pairs over all images of a list."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.files import read_ground_truth, read_mask, require_classes
from datasets.info import DatasetInfo
from datasets.lists import ListEntry, require_masks
from utils.errors import UserError
from utils.metrics import (
    SegmentationScores,
    class_agreement,
    joint_histogram,
    segmentation_scores,
)
from utils.processes import available_cpus

MISSING = "missing"
UNREADABLE = "unreadable"
WRONG_SIZE = "wrongly sized"

AT_ONCE = 256
"""Images whose counts may wait to be added: with 81 classes, those of one are 53 kB."""

Predict = Callable[[ListEntry, np.ndarray], np.ndarray]


class UnusableMaskError(UserError):
    """A mask that cannot be evaluated; `kind` says why: MISSING, UNREADABLE or WRONG_SIZE."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class ImageAgreement:
    """One image's TP − FN − FP, in pixels, by the index of each class its ground truth has."""

    id: str
    by_class: dict[int, int]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` counted.

    Attributes:
        histogram: K × (K + 1) label pairs (`utils.metrics.joint_histogram`), all images together.
        images: the evaluated images in the order of the list.
        left_out: the masks that were left out; empty unless that was allowed.
    """

    histogram: np.ndarray
    images: list[ImageAgreement]
    left_out: list[UnusableMaskError]

    @property
    def scores(self) -> SegmentationScores:
        return segmentation_scores(self.histogram)

    def add(self, image_id: str, counts: np.ndarray) -> None:
        """Add one image's K × (K + 1) label pairs."""
        np.add(self.histogram, counts, out=self.histogram)
        agreement, present = class_agreement(counts), np.flatnonzero(counts.sum(axis=1))
        by_class = {int(index): int(agreement[index]) for index in present}
        self.images.append(ImageAgreement(image_id, by_class))


def evaluate(
    entries: list[ListEntry],
    predict: Predict,
    info: DatasetInfo,
    *,
    allow_missing: bool = False,
) -> Evaluation:
    """Count the label pairs of all images.

    Args:
        entries: the images with their ground truth.
        predict: (entry, ground truth H×W) → predicted class indices H×W. It runs in threads; what
            it cannot deliver it raises as `UnusableMaskError`.
        info: says what values ground truth may have.
        allow_missing: leave out an image whose `predict` raises `UnusableMaskError`.

    Raises:
        UserError: an entry has no ground truth, or it cannot be read or holds values that are no
            classes, or no classes at all in any image; a mask is unusable and that was not
            allowed; or none is usable; and what else `predict` raises.
    """
    require_masks(
        entries, "evaluate with a list that names masks, or with a folder, --ground-truth DIR"
    )

    def count(entry: ListEntry) -> np.ndarray | UnusableMaskError:
        try:
            return _label_pairs(entry, predict, info)
        except UnusableMaskError as error:
            if not allow_missing:
                raise
            return error

    shape = info.num_classes, info.num_classes + 1
    result = Evaluation(np.zeros(shape, dtype=np.int64), [], [])
    with ThreadPoolExecutor(max_workers=min(8, available_cpus())) as pool:
        # tqdm's disable=None: a progress bar on a terminal only
        parts = (entries[start : start + AT_ONCE] for start in range(0, len(entries), AT_ONCE))
        counts_of_all = chain.from_iterable(pool.map(count, part) for part in parts)
        counted = tqdm(counts_of_all, total=len(entries), unit="image", disable=None)
        for entry, counts in zip(entries, counted, strict=True):
            if isinstance(counts, UnusableMaskError):
                result.left_out.append(counts)
            else:
                result.add(entry.id, counts)
    _require_pixels(result, entries, info)
    return result


def _label_pairs(entry: ListEntry, predict: Predict, info: DatasetInfo) -> np.ndarray:
    """One image's K × (K + 1) label pairs."""
    ground_truth = read_ground_truth(entry)
    require_classes(ground_truth, entry.mask, info)
    return joint_histogram(ground_truth, predict(entry, ground_truth), info.num_classes)


def _require_pixels(result: Evaluation, entries: list[ListEntry], info: DatasetInfo) -> None:
    if not result.images:
        raise UserError(
            f"none of the {len(entries)} images has a usable mask: {result.left_out[-1]}"
        )
    if not result.histogram.any():
        raise UserError(
            f"the ground truth, as {entries[0].mask}, is {info.ignore_index} everywhere; "
            f"give masks of class indices, 0 to {info.num_classes - 1}"
        )


def masks_from(folder: str | Path, info: DatasetInfo) -> Predict:
    """A `predict` for `evaluate` that reads FOLDER/ID.png; a `UserError` if there is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"the masks' folder {folder} does not exist; infer_val.py writes it")

    def predict(entry: ListEntry, ground_truth: np.ndarray) -> np.ndarray:
        return read_prediction(folder / f"{entry.id}.png", ground_truth.shape, info)

    return predict


def require_prediction(folder: str | Path, entry: ListEntry) -> None:
    """Raise `UnusableMaskError` unless there is a mask FOLDER/ID.png of the entry."""
    _require_mask(Path(folder) / f"{entry.id}.png")


def read_prediction(path: Path, shape: tuple[int, ...], info: DatasetInfo) -> np.ndarray:
    """Read a predicted mask of the ground truth's H×W `shape`.

    Raises:
        UnusableMaskError: it is missing, cannot be read, or has another size.
        UserError: it holds values that are no classes. No image may be left out for that: masks in
            another encoding would all be of that kind.
    """
    _require_mask(path)
    try:
        mask = read_mask(path)
    except UserError as error:
        raise UnusableMaskError(UNREADABLE, str(error)) from error
    if mask.shape != shape:
        found, expected = ("x".join(map(str, size)) for size in (mask.shape, shape))
        raise UnusableMaskError(
            WRONG_SIZE,
            f"mask {path} is {found} pixels (height x width), its ground truth {expected}; "
            "infer this image again",
        )
    require_classes(mask, path, info)
    return mask


def _require_mask(path: Path) -> None:
    if not path.exists():
        raise UnusableMaskError(
            MISSING,
            f"mask {path} does not exist; infer this image first, or leave such out with "
            "--allow-missing",
        )
