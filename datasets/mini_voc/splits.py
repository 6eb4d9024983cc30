"""Which picture goes where: ids, their splits in VOC and SBD, and the classes they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Widths and heights in pixels.
IMAGE_SIZES = ((128, 96), (96, 128), (112, 112), (100, 75), (75, 100), (120, 90), (72, 96))
# Frequencies of one, two and three objects in an image.
NUMBER_OF_OBJECTS = (0.4, 0.4, 0.2)

# Shares as in the real sets, roughly: of the training images those in VOC's train; of these
# those that SBD lacks; of VOC's val images those that SBD lists (which are dropped
# from training); of SBD's images those in its train.txt.
VOC_TRAIN_SHARE = 0.21
VOC_ONLY_SHARE = 0.22
VAL_IN_SBD_SHARE = 0.75
SBD_TRAIN_SHARE = 0.75


@dataclass(frozen=True)
class PlannedImage:
    """An image to draw, and the splits that list it.

    Attributes:
        id: its id in VOC's style, as 2008_000123.
        size: width and height in pixels.
        classes: the classes of its objects, from back to front.
        voc_split: train, val, or None where VOC does not have it.
        sbd_split: train, val, or None where SBD does not have it.
    """

    id: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    voc_split: str | None
    sbd_split: str | None


def plan_images(
    class_names: Sequence[str], num_train: int, num_val: int, rng: np.random.Generator
) -> list[PlannedImage]:
    """Plan `num_train` images for train_augvoc and `num_val` for val_voc, sorted by id.

    Classes are dealt from shuffled packs of all of them, so that each is about equally frequent
    in every split and none goes along with another.
    """
    num_voc = max(2, round(VOC_TRAIN_SHARE * num_train))
    num_voc_only = max(1, round(VOC_ONLY_SHARE * num_voc))
    num_val_in_sbd = round(VAL_IN_SBD_SHARE * num_val)
    # (in VOC as, in SBD)
    roles = (
        [("train", False)] * num_voc_only
        + [("train", True)] * (num_voc - num_voc_only)
        + [(None, True)] * (num_train - num_voc)
        + [("val", True)] * num_val_in_sbd
        + [("val", False)] * (num_val - num_val_in_sbd)
    )
    planned = []
    pack: list[str] = []
    for image_id, (voc_split, in_sbd) in zip(_draw_ids(len(roles), rng), roles, strict=True):
        number = 1 + int(rng.choice(len(NUMBER_OF_OBJECTS), p=NUMBER_OF_OBJECTS))
        while len(pack) < number:
            pack.extend(str(name) for name in rng.permutation(class_names))
        classes = tuple(pack.pop(0) for _ in range(number))
        size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
        sbd_split = ("train" if rng.random() < SBD_TRAIN_SHARE else "val") if in_sbd else None
        planned.append(PlannedImage(image_id, size, classes, voc_split, sbd_split))
    return sorted(planned, key=lambda image: image.id)


def _draw_ids(number: int, rng: np.random.Generator) -> list[str]:
    """Different ids: a year from 2007 to 2011 and a six-digit number."""
    serials = rng.choice(10_000, size=number, replace=False)
    years = rng.integers(2007, 2012, size=number)
    return [f"{year}_{serial:06d}" for year, serial in zip(years, serials, strict=True)]
