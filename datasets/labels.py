"""The image-level labels of lists, from tables or masks, checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets.class_names import label_vector, split_labels
from datasets.files import MISPAIRED, find_misfit, find_strange, read_mask
from datasets.image_labels import find_labels
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError, first_few

FEW_WITH_OBJECTS = 0.05
"""Below this fraction of images with objects, the masks are most likely wrong."""


class MaskFacts(NamedTuple):
    """What a mask holds.

    Attributes:
        present: 256 bool, which values occur.
        misfit: how it and its image differ in size; "" if they do not.
    """

    present: np.ndarray
    misfit: str


def read_mask_facts(entry: ListEntry) -> MaskFacts:
    """Read an entry's mask, and the header of its image; a `UserError` if that is not possible."""
    mask = read_mask(entry.mask)
    return MaskFacts(
        np.bincount(mask.reshape(-1), minlength=256) > 0, find_misfit(entry, mask.shape)
    )


def labels_of_list(
    name: str, entries: Sequence[ListEntry], facts: Sequence[MaskFacts], info: DatasetInfo
) -> np.ndarray:
    """The labels of a list's images: N×(C − 1) uint8 zeros and ones.

    Raises:
        UserError: masks have another size than their images, or values that are no classes; it
            counts them and names the first.
    """
    if misfits := [each.misfit for each in facts if each.misfit]:
        raise UserError(
            f"{misfits[0]} ({len(misfits)} of the {len(facts)} pairs in {name} differ in size); "
            f"{MISPAIRED}"
        )
    present = np.stack([each.present for each in facts])
    if find_strange(np.flatnonzero(present.any(axis=0)), info):
        found = [find_strange(np.flatnonzero(values), info) for values in present]
        first, *others = [index for index, strange in enumerate(found) if strange]
        raise UserError(
            f"mask {entries[first].mask} {found[first]} ({1 + len(others)} of the {len(facts)} "
            f"masks in {name} hold such values)"
        )
    return present[:, 1 : info.num_classes].astype(np.uint8)


def given_labels(
    entries: Sequence[ListEntry], info: DatasetInfo
) -> tuple[dict[ListEntry, np.ndarray | None], list[str]]:
    """The labels that a list's own column, or else the data set's labels table, gives.

    Args:
        entries: of a list; a column of labels wins over the table.
        info: the data set, whose `path` is the data root.

    Returns:
        C − 1 uint8 zeros and ones of each entry, None where the table lacks it, without those whose
        labels come from masks; and the names in the table that are none of these images.

    Raises:
        UserError: a name is no class, or the table cannot be read.
    """
    labels: dict[ListEntry, np.ndarray | None] = {
        entry: column_labels(entry, info.classes) for entry in entries if entry.labels is not None
    }
    others = [entry for entry in entries if entry.labels is None]
    if not info.labels or not others:
        return labels, []
    found = find_labels(info.labels_path, [entry.image for entry in others], info.classes)
    return labels | dict(zip(others, found.labels, strict=True)), found.unused


def column_labels(entry: ListEntry, classes: Sequence[str]) -> np.ndarray:
    """The labels in an entry's own column; a `UserError` names what is no class."""
    try:
        return label_vector(split_labels(entry.labels, classes), classes).astype(np.uint8)
    except UserError as error:
        raise UserError(f"{entry.image}: {error}") from error


def require_objects(
    name: str, labels: np.ndarray, facts: Sequence[MaskFacts], classes: int
) -> None:
    """Raise `UserError` if no image of the list `name` has an object: nothing could be learnt.

    Such labels come from masks whose objects are all 255, as many programs save them.
    """
    if labels.any():
        return
    if facts:
        values = np.flatnonzero(np.any([each.present for each in facts], axis=0))
        raise UserError(
            f"no image of {name} has an object: its masks hold {' and '.join(map(str, values))} "
            f"alone; values are class indices, 0 to {classes - 1}"
        )
    raise UserError(f"no image of {name} has an object; name the objects in its labels")


def doubts(lists: Sequence[tuple[str, np.ndarray]], info: DatasetInfo) -> list[str]:
    """Warnings about the labels of the training list, the first, and of the others; a line each."""
    (training, labels), *others = lists
    found = []
    with_objects = int(labels.any(axis=1).sum())
    if with_objects < FEW_WITH_OBJECTS * len(labels):
        found.append(
            f"only {with_objects} of the {len(labels)} images of {training} have an object; mask "
            f"values are class indices, 0 to {info.num_classes - 1}"
        )
    if lacking := [info.classes[1 + index] for index in np.flatnonzero(~labels.any(axis=0))]:
        found.append(f"no image of {training} has {first_few(lacking)}, which cannot be learnt")
    found += [
        f"no image of {name} has an object, so that its mAP is nan"
        for name, of_list in others
        if not of_list.any()
    ]
    return found


def count_table(lists: Sequence[tuple[str, np.ndarray]], info: DatasetInfo) -> str:
    """How many images of each list have each class, as a table of plain text.

    Args:
        lists: names, and labels as `labels_of_list` gives them.
        info: names the classes.
    """
    rows = [("images with", *(name for name, _ in lists))]
    for index, label in enumerate(info.classes[1:]):
        rows.append((label, *(str(int(labels[:, index].sum())) for _, labels in lists)))
    without = (str(int((~labels.any(axis=1)).sum())) for _, labels in lists)
    rows.append(("no object", *without))
    rows.append(("in all", *(str(len(labels)) for _, labels in lists)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([f"{label:{widths[0]}}", *map(str.rjust, cells, widths[1:])])
        for label, *cells in rows
    )
