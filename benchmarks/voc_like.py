"""Files like VOC's to measure with: photographs as JPEGs, masks of blobs as palette PNGs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from datasets.files import write_mask
from datasets.lists import ListEntry
from datasets.voc import PASCAL_VOC

SIZE = 375, 500
"""Height and width of the images, those of many of VOC's."""


def photograph(number: int = 0) -> np.ndarray:
    """A part of a photograph that scikit-learn brings, 375×500×3 uint8."""
    height, width = SIZE
    pixels = _photographs()[number % 2]
    random = np.random.default_rng(number)
    top, left = (random.integers(0, room) for room in np.subtract(pixels.shape[:2], SIZE))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def blobs(number: int = 0) -> np.ndarray:
    """A mask of two or three objects with wavy borders, 255 along them, 375×500 uint8."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, dtype=np.uint8)
    for index in random.choice(np.arange(1, PASCAL_VOC.num_classes), random.integers(2, 4)):
        row, column, radius = (random.integers(*span) for span in ((80, 300), (80, 420), (40, 90)))
        angle = np.arctan2(rows - row, columns - column)
        distance = np.hypot(rows - row, columns - column) + 6 * np.sin(9 * angle + index)
        mask[distance < radius + 4] = PASCAL_VOC.ignore_index
        mask[distance < radius] = index
    return mask


def write_samples(folder: Path, count: int) -> list[ListEntry]:
    """Write images and masks; gives the list of them."""
    entries = []
    for number in range(count):
        entry = ListEntry(folder / f"{number}.jpg", folder / f"{number}.png")
        Image.fromarray(photograph(number)).save(entry.image, quality=90)
        write_mask(entry.mask, blobs(number), PASCAL_VOC.palette)
        entries.append(entry)
    return entries


@cache
def _photographs() -> tuple[np.ndarray, np.ndarray]:
    return load_sample_image("china.jpg"), load_sample_image("flower.jpg")
