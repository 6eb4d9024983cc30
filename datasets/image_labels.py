"""Image labels that a user knows: names of classes, from a file or from Python."""

from __future__ import annotations

import codecs
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

from datasets.lists import ListEntry
from utils.errors import UserError, reason

SEPARATORS = (",", ";", "\t")


def read_labels(
    path: Path, entries: Sequence[ListEntry], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """The labels of images from a file that names their objects.

    Args:
        path: JSON (`{"a.jpg": ["cat", "sofa"], ...}`) or CSV (rows `a.jpg,cat,sofa`, with or
            without a header; semicolons or tabs may replace the commas), told by its suffix, in
            UTF-8, or in UTF-16 with a byte order mark. Images go by file name or id; folders and
            capitals do not count. An image without classes is background only.
        entries: the images that are wanted; the file's other images are ignored.
        classes: class names in index order, background first; as for `label_vector`.

    Returns:
        For each entry's id C−1 float32 zeros and ones.

    Raises:
        UserError: the file cannot be read or parsed, names an image twice or an unknown class,
            lacks an entry, or has several names that may mean it.
    """
    named = _read_names(path, entries)
    found = _match(named, entries, path)
    lacking = [entry.image.name for entry, objects in found.items() if objects is None]
    if lacking:
        instead = f" (it names {next(reversed(named))!r})" if named else ""
        raise UserError(
            f"{path} lacks {len(lacking)} of the {len(entries)} images, the first {lacking[0]}"
            f"{instead}; add them, with no classes where there are no objects"
        )
    labels = {}
    for entry, objects in found.items():
        try:
            labels[entry.id] = label_vector(objects, classes)
        except UserError as error:
            number = next(filter(str.isdecimal, objects), None)
            problem = str(error)
            if number is not None:  # as in a table with one column per class
                problem = f"{number!r} is no class; write names of classes, as {classes[1]}"
            raise UserError(f"{path}, {entry.image.name}: {problem}") from error
    return labels


def label_vector(objects: Iterable[str | int], classes: Sequence[str]) -> np.ndarray:
    """The labels of an image that has these objects: C−1 float32 zeros and ones.

    Args:
        objects: names, in which capitals, blanks, hyphens, slashes and underscores do not count
            (either part of tv/monitor is enough), or indices from 1 to C−1.
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


def _match(
    named: dict[str, list[str]], entries: Sequence[ListEntry], path: Path
) -> dict[ListEntry, list[str] | None]:
    """The names of each entry's objects; None where the file lacks the entry."""
    found = {entry: named.get(entry.image.name, named.get(entry.id)) for entry in entries}
    taken = {name for entry in entries for name in (entry.image.name, entry.id)}
    loosely: dict[str, list[str]] = {}
    for name in named:
        # an exact name of one image is not a loose one of another
        if name not in taken:
            loosely.setdefault(_loose(name), []).append(name)
    for entry in (entry for entry, objects in found.items() if objects is None):
        names = [
            name
            for key in dict.fromkeys((_loose(entry.image.name), _loose(entry.id)))
            for name in loosely.get(key, [])
        ]
        if len(names) > 1:
            raise UserError(
                f"{path}: {names[0]} and {names[1]} may both mean {entry.image.name}; write that "
                "exact name for the right one"
            )
        if names:
            found[entry] = named[names[0]]
    return found


def _loose(name: str) -> str:
    """A name in small letters, without its folders (Windows' too)."""
    return re.split(r"[/\\]", name)[-1].casefold()


def _read_names(path: Path, entries: Sequence[ListEntry]) -> dict[str, list[str]]:
    """The file's content: image → names of classes."""
    readers = {".json": _pairs_of_json, ".csv": lambda text: _pairs_of_csv(text, entries)}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"--labels {path}: expected a file whose name ends in .json or .csv")
    try:
        pairs = reader(_decode(path.read_bytes()))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"cannot read the labels {path} ({reason(error)})") from error
    named: dict[str, list[str]] = {}
    for name, objects in pairs:
        if name in named:
            raise UserError(f"{path} names {name} twice; remove one of them")
        named[name] = objects
    return named


def _decode(content: bytes) -> str:
    # spreadsheets save "Unicode text" in UTF-16
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text; save it as UTF-8") from error


def _pairs_of_json(text: str) -> list[tuple[str, list[str]]]:
    # as pairs, since a dictionary would keep only the last of two equal names
    content = json.loads(text, object_pairs_hook=lambda pairs: tuple(pairs))
    if not isinstance(content, tuple):
        raise ValueError('expected {"a.jpg": ["cat", "sofa"], ...}')
    for name, objects in content:
        if not isinstance(objects, list) or not all(isinstance(item, str) for item in objects):
            raise ValueError(f'{name}: expected a list of class names, as ["cat", "sofa"]')
    return list(content)


def _pairs_of_csv(text: str, entries: Sequence[ListEntry]) -> list[tuple[str, list[str]]]:
    pairs = []
    separator = _separator(text, entries)
    for row in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator):
        name, *objects = [cell.strip() for cell in row] or [""]
        objects = [item for item in objects if item]
        if name:
            pairs.append((name, objects))
        elif objects:
            raise ValueError(f"a row without an image: {row}")
    return pairs


def _separator(text: str, entries: Sequence[ListEntry]) -> str:
    """The separator that most images' names stand before; the comma of equals."""
    wanted = {_loose(name) for entry in entries for name in (entry.image.name, entry.id)}
    lines = text.splitlines()

    def images_named(separator: str) -> int:
        return sum(_loose(line.split(separator)[0].strip(' "')) in wanted for line in lines)

    return max(SEPARATORS, key=images_named)


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
