"""The images of a file list, and what can be found wrong with them before the first one is run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.config import InferenceConfig
from core.inference.views import Size, check_sizes
from datasets.files import ListEntry, read_image, read_mask, require_masks
from datasets.presence import require_files
from utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """An opened image of a list.

    Attributes:
        id: what its results are named after.
        image: RGB.
        ground_truth: H×W uint8 class indices, or None where the list has no mask column.
    """

    id: str
    image: Image.Image
    ground_truth: np.ndarray | None

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.image.height, self.image.width


def load_sample(entry: ListEntry) -> Sample:
    """Open an entry's image and, where it names one, its mask.

    Raises `UserError` for a file that is missing or cannot be read, and where the two differ in
    size.
    """
    sample = Sample(
        entry.id, read_image(entry.image), None if entry.mask is None else read_mask(entry.mask)
    )
    if sample.ground_truth is not None and sample.ground_truth.shape != sample.size:
        mask_height, mask_width = sample.ground_truth.shape
        raise UserError(
            f"mask {entry.mask} is {mask_height}×{mask_width}, its image {entry.image} "
            f"{sample.size[0]}×{sample.size[1]}; the list pairs them wrongly"
        )
    return sample


def check_samples(entries: Sequence[ListEntry], test: InferenceConfig, threads: int) -> None:
    """Open every file of a list once, so that a long run does not fail on the last one.

    Args:
        entries: the list.
        test: the configuration's TEST section.
        threads: how many files are opened at a time.

    Raises:
        UserError: USE_GT_LABELS without a mask column; files that are missing; whatever
            `load_sample` and `check_sizes` object to.
    """
    if test.USE_GT_LABELS:
        require_masks(
            entries,
            remedy="add it or set TEST.USE_GT_LABELS False",
            lack="TEST.USE_GT_LABELS takes labels from masks, but there is none",
        )
    require_files(entries)  # to open those before the first missing one may take minutes
    with ThreadPoolExecutor(max(1, threads)) as pool:
        sizes = list(pool.map(lambda entry: load_sample(entry).size, entries))
    images = [str(entry.image) for entry in entries]
    check_sizes(dict(zip(images, sizes, strict=True)), test)
