"""A described collection: images, their objects, and which part each is in."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.class_names import plain_name
from datasets.dataset_file import BACKGROUND, MAX_OBJECTS
from datasets.image_folder.content import FolderContent
from datasets.image_labels import FoundObjects
from utils.errors import UserError


@dataclass(frozen=True)
class Collection:
    """A collection of N images.

    Attributes:
        folder: where they are, an absolute path.
        names: their paths, relative to it, sorted.
        objects: the names of the classes but background, sorted.
        labels: N×(C − 1) uint8 zeros and ones.
        sizes: N×2 widths and heights.
        copies: groups of the numbers of equal images.
        parts: N zeros (train) and ones (val).
    """

    folder: Path
    names: list[str]
    objects: list[str]
    labels: np.ndarray
    sizes: np.ndarray
    copies: list[list[int]]
    parts: np.ndarray

    def objects_of(self, number: int) -> list[str]:
        """The names of the objects in an image."""
        return [self.objects[index] for index in np.flatnonzero(self.labels[number])]


def label_images(
    source: Path, content: FolderContent, found: FoundObjects
) -> tuple[list[str], np.ndarray, list[str]]:
    """The classes that the labels of all images name, and which each image has.

    Args:
        source: where the labels come from, for messages.
        content: the images.
        found: the names of their objects, none missing.

    Returns:
        The classes' names as they are first written in the source, sorted; N×(C − 1) uint8 zeros
        and ones; notes on names that are one class, a line each.

    Raises:
        UserError: there is no object, a name is none of an object, or there are too many.
    """
    spellings: dict[str, list[str]] = {}
    for written in found.names:
        name = unicodedata.normalize("NFC", written.strip())
        plain = plain_name(name)
        if not plain or plain == BACKGROUND:
            raise UserError(f"{source}: {written!r} is no object; leave it out")
        known = spellings.setdefault(plain, [])
        if name not in known:
            known.append(name)
    if not spellings:
        raise UserError(f"{source}: no image has an object; name the objects in the images")
    if len(spellings) > MAX_OBJECTS:
        raise UserError(
            f"{source} names {len(spellings)} objects; a mask holds {MAX_OBJECTS}: is every name "
            "in it one?"
        )
    plain_of = {name: plain_name(name) for name in found.names}
    in_order = sorted(spellings, key=lambda plain: spellings[plain][0])
    index_of = {plain: index for index, plain in enumerate(in_order)}
    labels = np.zeros((len(content.names), len(in_order)), np.uint8)
    for row, objects in zip(labels, found.objects, strict=True):
        row[[index_of[plain_of[name]] for name in objects]] = 1
    notes = [
        f"note: {' and '.join(map(repr, names))} are one class, {names[0]!r}"
        for names in (spellings[plain] for plain in in_order)
        if len(names) > 1
    ]
    return [spellings[plain][0] for plain in in_order], labels, notes
