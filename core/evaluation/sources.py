"""What there is to evaluate: a folder's masks, those with CRF in it, or the oracle's.

It is held against the ground truth of a list, or against a folder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.evaluation.evaluate import Predict, masks_from
from core.inference.writing import CRF_FOLDER
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError, first_few, os_errors_end_in

PLAIN, CRF, ORACLE = "plain", "crf", "oracle"


@dataclass(frozen=True)
class MaskSource:
    """Where predictions come from.

    Attributes:
        name: `plain`, `crf` or `oracle`, for machines.
        title: the same for readers.
        origin: the masks' folder, or the oracle's grid as `128x128`.
        predict: gives the masks, see `evaluate`.
    """

    name: str
    title: str
    origin: str
    predict: Predict

    def heading(self, filelist: str) -> str:
        """The line above its table; `filelist` as in `Report`."""
        if self.name == ORACLE:
            return f"Oracle: the ground truth of {filelist}, taken to {self.origin} and back"
        return f"Masks of {self.origin} against {filelist}"


def mask_sources(
    folder: str | Path, entries: Sequence[ListEntry], info: DatasetInfo
) -> list[MaskSource]:
    """The masks FOLDER/ID.png and, if there are any of these entries, FOLDER/crf/ID.png.

    Raises:
        UserError: there is no folder.
    """
    if Path(folder).name == CRF_FOLDER:
        return [MaskSource(CRF, "with CRF", str(folder), masks_from(folder, info))]
    sources = [MaskSource(PLAIN, "without CRF", str(folder), masks_from(folder, info))]
    refined = Path(folder) / CRF_FOLDER
    if any((refined / f"{entry.id}.png").exists() for entry in entries):
        sources += mask_sources(refined, entries, info)
    return sources


def ground_truth_in(folder: str | Path) -> tuple[list[ListEntry], str]:
    """The masks ID.png of a folder, sorted by name; hidden files are none.

    Returns:
        An entry without image for each, and a line about the folder's other files, empty if there
        are none.

    Raises:
        UserError: there is no such folder, it cannot be read, or it has no masks.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--ground-truth {folder} is no folder; give one of masks ID.png")
    with os_errors_end_in("make the folder readable"):
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        masks, others = [], []
        for path in paths:
            if path.is_dir():
                others.append(f"{path.name}/")
            elif path.suffix.lower() == ".png":
                masks.append(path)
            else:
                others.append(path.name)
    if not masks:
        raise UserError(
            f"there is no ID.png in {folder} ({len(others)} other files and folders, which are not "
            "searched); give the folder of the masks themselves"
        )
    # masks alone stay as they are stored
    entries = [ListEntry(path, path, exif=False) for path in masks]
    if not others:
        return entries, ""
    return entries, (
        f"{len(others)} other files and folders of {folder} are left out: {first_few(others)}"
    )


def oracle_source(size: tuple[int, int], info: DatasetInfo) -> MaskSource:
    """The ground truth taken to `size` (height, width) pixels and back; it needs no masks."""

    def predict(_: ListEntry, ground_truth: np.ndarray) -> np.ndarray:
        return oracle_mask(ground_truth, size, info.num_classes)

    return MaskSource(ORACLE, "oracle", "x".join(map(str, size)), predict)


def oracle_mask(ground_truth: np.ndarray, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """Take the ground truth's objects one by one to a smaller grid and back.

    Object c's zeros and ones go to h×w and back to H×W, both bilinear with corners not aligned
    and without antialiasing; above 0.5 the pixel is c, where no object is it is background (0).
    Other values, the ignore index among them, belong to no object. Since the objects' values sum
    to at most 1 in every pixel, no two exceed 0.5.

    Args:
        ground_truth: H×W class indices.
        size: (h, w) of the grid.
        num_classes: number of classes, background included.

    Returns:
        H×W class indices of the ground truth's type.
    """
    # torch takes seconds to import, and evaluating masks does without it
    import torch
    import torch.nn.functional as F

    mask = np.zeros_like(ground_truth)
    objects = np.unique(ground_truth)
    for index in objects[(objects > 0) & (objects < num_classes)]:
        full = torch.from_numpy((ground_truth == index).astype(np.float32))[None, None]
        grid = F.interpolate(full, size=size, mode="bilinear", align_corners=False)
        back = F.interpolate(grid, size=full.shape[2:], mode="bilinear", align_corners=False)
        mask[back[0, 0].numpy() > 0.5] = index
    return mask
