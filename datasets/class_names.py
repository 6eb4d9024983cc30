"""Names of classes as users write them: to indices, and to the labels of an image."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from utils.errors import UserError

CELL_SEPARATORS = ("|", ";", ",")


def label_vector(objects: Iterable[str | int], classes: Sequence[str]) -> np.ndarray:
    """The labels of an image that has these objects: C−1 float32 zeros and ones.

    Args:
        objects: names, in which capitals, blanks, hyphens, slashes and underscores do not count
            (either part of tv/monitor is enough), or indices from 1 to C−1.
        classes: class names in index order, background first.

    Raises:
        UserError: there is no such object, or a name may mean two of them.
    """
    if isinstance(objects, str):
        raise UserError(f"expected several classes, as [{objects!r}], found {objects!r}")
    vector = np.zeros(len(classes) - 1, np.float32)
    for item in objects:
        index = object_index(item, classes) if isinstance(item, str) else _index(item)
        if not 0 < index < len(classes):
            raise UserError(f"{item!r} is no object; their indices are 1 to {len(classes) - 1}")
        vector[index - 1] = 1
    return vector


def object_index(name: str, classes: Sequence[str]) -> int:
    """The index, from 1 to C−1, of an object by its name; errors as of `label_vector`."""
    index = class_index(name, classes)
    if index is None:
        near = nearest_class(name, classes)
        raise UserError(f"there is no class {name!r}; did you mean {near!r}?")
    if index == 0:
        raise UserError(f"{name!r} is no object; leave it out, it is everywhere")
    return index


def class_index(name: str, classes: Sequence[str]) -> int | None:
    """The index of the class that a name means, 0 for background; None if it means none.

    A class's exact name goes before one that differs in capitals, blanks and the like, and that
    before a part of another's.

    Raises:
        UserError: the name may mean two classes.
    """
    for spell, indices in _levels(tuple(classes)):
        found = indices.get(spell(name), ())
        if len(found) > 1:
            first, second, *_ = (classes[index] for index in found)
            raise UserError(
                f"{name!r} may mean the class {first!r} or {second!r}; write its whole name"
            )
        if found:
            return found[0]
    return None


def nearest_class(name: str, classes: Sequence[str]) -> str:
    """The class whose name looks most like this one; for messages."""
    spelled = {
        key: found[0] for _, indices in _levels(tuple(classes)) for key, found in indices.items()
    }
    [near] = get_close_matches(plain_name(name), spelled, n=1, cutoff=0.0)
    return classes[spelled[near]]


def split_labels(cell: str, classes: Sequence[str]) -> list[str]:
    """The names in a table's cell of labels, which are not yet known to be classes.

    They are separated by `|`, `;` or `,`, the first of these that the cell has; by spaces if it
    has none of them and is not itself the name of a class.

    Raises:
        UserError: the cell is one class's name, loosely, as well as names of several.
    """
    names = [name.strip() for name in _split_labels(unicodedata.normalize("NFC", cell), classes)]
    return [name for name in names if name]


def splitter(cells: Sequence[str], one_each: bool) -> Callable[[str], list[str]]:
    """How a column's cells of labels are split before the classes are known.

    The first of `|`, `;` and `,` that any cell has separates in all of them; else spaces do.

    Args:
        cells: of the whole column.
        one_each: where there are no such separators, each cell is one name.
    """
    marks = (mark for mark in CELL_SEPARATORS if any(mark in cell for cell in cells))
    separator = next(marks, "\n" if one_each else None)

    def split(cell: str) -> list[str]:
        parts = unicodedata.normalize("NFC", cell).split(separator)
        return [part.strip() for part in parts if part.strip()]

    return split


def _split_labels(cell: str, classes: Sequence[str]) -> list[str]:
    whole = class_index(cell, classes)
    separator = next((mark for mark in CELL_SEPARATORS if mark in cell), None)
    if separator is not None:
        return [cell] if whole is not None else cell.split(separator)
    words = cell.split()
    if whole is None or len(words) < 2:
        return words
    if cell.strip() != unicodedata.normalize("NFC", classes[whole]):
        parts = {class_index(word, classes) for word in words}
        if None not in parts and parts != {whole}:
            raise UserError(
                f"{cell!r} may be {classes[whole]!r} or {len(words)} classes; put | between those"
            )
    return [cell]


@lru_cache(maxsize=8)
def _levels(
    classes: tuple[str, ...],
) -> list[tuple[Callable[[str], str], dict[str, tuple[int, ...]]]]:
    """Ways to spell a class, the closest first: (how, spelled name → indices of classes)."""
    kinds = (
        (_exact, lambda name: [name]),
        (plain_name, lambda name: [name]),
        (plain_name, lambda name: name.split("/")),
    )
    levels = []
    for spell, parts in kinds:
        indices: dict[str, tuple[int, ...]] = {}
        for index, name in enumerate(classes):
            for part in dict.fromkeys(map(spell, parts(name))):
                if part:
                    indices[part] = (*indices.get(part, ()), index)
        levels.append((spell, indices))
    return levels


def _exact(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def plain_name(name: str) -> str:
    """A class's name without what its readers do not tell apart: capitals, blanks, - _ and /."""
    return re.sub(r"[\s\-_/]", "", _exact(name)).casefold()


def _index(item: Any) -> int:
    try:
        return operator.index(item)
    except TypeError as error:
        raise UserError(f"expected the name or the index of a class, found {item!r}") from error
