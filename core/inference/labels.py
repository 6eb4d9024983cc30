"""Image-level labels that a user knows: classes by name, from a file or from Python."""

from __future__ import annotations

import csv
import io
import json
import operator
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from datasets.files import ListEntry, reason
from utils.errors import UserError


def read_labels(
    path: Path, entries: Sequence[ListEntry], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """The labels of images from a file that names their objects.

    Args:
        path: JSON (`{"a.jpg": ["cat", "sofa"], ...}`) or CSV (rows `a.jpg,cat,sofa`, without a
            header or with one), by its suffix. Images go by their file name or by their id; no
            classes at all mean an image of nothing but background.
        entries: the images that are wanted. What the file has beside them is not looked at.
        classes: class names in index order, background first; as for `label_vector`.

    Returns:
        For each entry's id C−1 float32 zeros and ones.

    Raises:
        UserError: the file cannot be read, is not of that form, names an image twice or a class
            that there is not, or lacks an entry.
    """
    named = _read_names(path)
    found = {entry: named.get(entry.image.name, named.get(entry.id)) for entry in entries}
    lacking = [entry.image.name for entry, objects in found.items() if objects is None]
    if lacking:
        raise UserError(
            f"{path} lacks {len(lacking)} of the {len(entries)} images, the first {lacking[0]}; "
            "add them, those without objects with no classes"
        )
    labels = {}
    for entry, objects in found.items():
        try:
            labels[entry.id] = label_vector(objects, classes)
        except UserError as error:
            raise UserError(f"{path}, {entry.image.name}: {error}") from error
    return labels


def label_vector(objects: Iterable[str | int], classes: Sequence[str]) -> np.ndarray:
    """The labels of an image that has these objects: C−1 float32 zeros and ones.

    Args:
        objects: names, in which capitals, blanks, hyphens, slashes and underscores do not count
            (of a name as tv/monitor each part will do), or indices from 1 to C−1.
        classes: class names in index order, background first.

    Raises:
        UserError: there is no such object.
    """
    if isinstance(objects, str):
        raise UserError(f"expected several classes, as [{objects!r}], found {objects!r}")
    indices = _indices_of_names(classes)
    vector = np.zeros(len(classes) - 1, np.float32)
    for item in objects:
        index = _index_of_name(item, indices, classes) if isinstance(item, str) else _index(item)
        if not 0 < index < len(classes):
            raise UserError(f"{item!r} is no object; their indices are 1 to {len(classes) - 1}")
        vector[index - 1] = 1
    return vector


def _read_names(path: Path) -> dict[str, list[str]]:
    """What the file says: image → names of classes."""
    readers = {".json": _pairs_of_json, ".csv": _pairs_of_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"--labels {path}: expected a file whose name ends in .json or .csv")
    try:
        pairs = reader(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"cannot read the labels {path} ({reason(error)})") from error
    named: dict[str, list[str]] = {}
    for name, objects in pairs:
        if name in named:
            raise UserError(f"{path} names {name} twice; remove one of them")
        named[name] = objects
    return named


def _pairs_of_json(text: str) -> list[tuple[str, list[str]]]:
    # as pairs, since of a name that comes twice a dictionary would keep the last
    content = json.loads(text, object_pairs_hook=lambda pairs: tuple(pairs))
    if not isinstance(content, tuple):
        raise ValueError('expected {"a.jpg": ["cat", "sofa"], ...}')
    for name, objects in content:
        if not isinstance(objects, list) or not all(isinstance(item, str) for item in objects):
            raise ValueError(f'{name}: expected a list of class names, as ["cat", "sofa"]')
    return list(content)


def _pairs_of_csv(text: str) -> list[tuple[str, list[str]]]:
    pairs = []
    for row in csv.reader(io.StringIO(text, newline=""), strict=True):
        name, *objects = [cell.strip() for cell in row] or [""]
        objects = [item for item in objects if item]
        if name:
            pairs.append((name, objects))
        elif objects:
            raise ValueError(f"a row without an image: {row}")
    return pairs


def _indices_of_names(classes: Sequence[str]) -> dict[str, int]:
    indices = {}
    for index, name in enumerate(classes):
        for part in (name, *name.split("/")):
            indices[_plain(part)] = index
    return indices


def _index_of_name(name: str, indices: dict[str, int], classes: Sequence[str]) -> int:
    index = indices.get(_plain(name))
    if index is None:
        near = get_close_matches(_plain(name), indices, n=1, cutoff=0.0)
        raise UserError(f"there is no class {name!r}; did you mean {classes[indices[near[0]]]!r}?")
    if index == 0:
        raise UserError(f"{name!r} is no object; leave it out, it is everywhere")
    return index


def _index(item: Any) -> int:
    try:
        return operator.index(item)
    except TypeError as error:
        raise UserError(f"expected the name or the index of a class, found {item!r}") from error


def _plain(name: str) -> str:
    return re.sub(r"[\s\-_/]", "", name).casefold()
