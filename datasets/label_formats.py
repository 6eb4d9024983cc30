"""Image-level labels in text: tables (rows, a column of labels, a column a class), JSON, lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from datasets.class_names import class_index, nearest_class, plain_name, split_labels, splitter
from datasets.images import image_suffixes
from datasets.lists import IMAGE, LABELS, MASK, SEPARATORS
from utils.errors import UserError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
LINES_SUFFIXES = (".jsonl", ".ndjson")
HEADERS = "`image,labels`, or `image,OBJECT,…` above 0 and 1"

_QUOTED = re.compile(r'"((?:[^"]|"")*)"\s*(.?)')
_LABELS = (LABELS, "label")
_OBJECTS = ("objects", "object")  # an old header of rows
_NO_OBJECTS = (MASK, "background")
_NUMBERS = {"": False, "0": False, "0.0": False, "1": True, "1.0": True}
_UNKNOWN = ("-1", "-1.0", "?")


@dataclass(frozen=True)
class Source:
    """What some file or folder says of images.

    Attributes:
        names: the images', as they are written there: file names, ids or paths.
        objects: the names of the objects in the image of some number; raises `UserError`. They are
            made when asked for: what is wrong with an image that nobody wants is no matter.
        place: where that image stands, for messages: a row, or the image's name.
    """

    names: Sequence[str]
    objects: Callable[[int], Sequence[str]]
    place: Callable[[int], str]


@dataclass(frozen=True)
class _Row:
    number: int
    name: str
    cells: list[str]  # but the first

    def __str__(self) -> str:
        return f"row {self.number} ({self.name})" if self.name else f"row {self.number}"


def read_table(path: Path, images: Sequence[Path], classes: Sequence[str] | None) -> Source:
    """A table of labels, of rows or below a header that begins with `image`.

    Args:
        path: rows `a.jpg,cat,dog`; or a column `labels` of cells as `split_labels` takes; or a
            column a class of 0 and 1. Semicolons or tabs may replace the commas.
        images: those that are wanted; they tell what the separator is.
        classes: class names in index order, background first; None if they are not known yet, and
            each name is one.

    Raises:
        UserError: a row has no image, or the header does not go with the rows.
        OSError, ValueError, csv.Error: the file cannot be read or parsed.
    """
    text = read_text(path)
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=_separator(text, images)
    )
    rows = []
    for cells in reader:
        name, *others = [cell.strip() for cell in cells] or [""]
        while others and not others[-1]:
            others.pop()
        if name or others:
            rows.append(_Row(reader.line_num, name, others))
    if not rows or rows[0].name.casefold() != IMAGE:
        return _rows(path, rows, classes)
    header, *rows = rows
    columns = [cell.casefold() for cell in header.cells]
    if sum(column in _LABELS for column in columns) > 1:
        raise UserError(f"{path}: the header has several columns of labels; keep one")
    for number, column in enumerate(columns):
        if column in _LABELS:
            return _column_of_labels(path, rows, number, columns, classes)
    if columns and columns[0] in _OBJECTS:
        return _rows(path, rows, classes)
    return _column_a_class(path, header, rows, classes)


def _rows(path: Path, rows: list[_Row], classes: Sequence[str] | None) -> Source:
    if _is_header_of_numbers(rows, classes):
        raise UserError(f"{path}: the header of a table of 0 and 1 begins with `image`; so name it")

    def objects(row: _Row) -> list[str]:
        names = [cell for cell in row.cells if cell]
        for name in names:
            if classes is None:
                _refuse_several(f"{path}, {row}", name)
            elif class_index(name, classes) is None:
                _explain_cell(f"{path}, {row}", name, classes)
        return names

    return _source(path, rows, objects)


def _is_header_of_numbers(rows: Sequence[_Row], classes: Sequence[str] | None) -> bool:
    """Whether a column a class is meant, though no `image` says so; classes may be digits, too."""
    if len(rows) < 2 or PurePath(rows[0].name).suffix.lower() in image_suffixes():
        return False
    header, *others = (row.cells for row in rows)
    values = {cell for cells in others for cell in cells}
    if not ({"0", "1"} & values and values <= _NUMBERS.keys()):
        return False
    if max(map(len, others)) > len(header):
        return False
    if classes is None:
        return not header or not set(header) <= _NUMBERS.keys()
    return len(header) > 1 and all(class_index(cell, classes) is not None for cell in header)


def _refuse_several(place: str, cell: str) -> None:
    """Raise `UserError` where a cell looks like several classes, which are not known yet."""
    if "|" in cell or ";" in cell:
        raise UserError(
            f"{place}: {cell!r} are several classes in one cell; write the header `image,labels`, "
            "or cells of their own"
        )


def _explain_cell(place: str, cell: str, classes: Sequence[str]) -> None:
    """Raise `UserError` where a cell of a row is no class for want of a header."""
    if re.fullmatch(r"-?[\d.]+", cell):
        raise UserError(
            f"{place}: {cell!r} is no class; the header of a table of 0 and 1 is `image,OBJECT,…`"
        )
    if all(class_index(part, classes) is not None for part in split_labels(cell, classes)):
        raise UserError(
            f"{place}: {cell!r} are several classes in one cell; write the header `image,labels`, "
            "or cells of their own"
        )


def _column_of_labels(
    path: Path,
    rows: list[_Row],
    column: int,
    columns: Sequence[str],
    classes: Sequence[str] | None,
) -> Source:
    split = partial(split_labels, classes=classes)
    if classes is None:
        cells = [row.cells[column] for row in rows if column < len(row.cells)]
        split = splitter(cells, one_each=columns[column] == "label")

    def objects(row: _Row) -> list[str]:
        if len(row.cells) > len(columns):
            raise UserError(
                f"{path}, {row} has more cells than the header; put its labels in quotes, or "
                "separate them by |"
            )
        try:
            return split(row.cells[column]) if column < len(row.cells) else []
        except UserError as error:
            raise UserError(f"{path}, {row}: {error}") from error

    return _source(path, rows, objects)


def _column_a_class(
    path: Path, header: _Row, rows: list[_Row], classes: Sequence[str] | None
) -> Source:
    columns = _classes_of_columns(path, header, rows, classes)

    def objects(row: _Row) -> list[str]:
        if len(row.cells) > len(header.cells):
            raise UserError(f"{path}, {row} has more cells than the header; name each column there")
        pairs = zip(header.cells, row.cells, strict=False)  # a missing cell is blank
        return [name for name, cell in pairs if name in columns and _is_one(row, name, cell)]

    def _is_one(row: _Row, name: str, cell: str) -> bool:
        if cell in _UNKNOWN:
            raise UserError(
                f"{path}, {row}: whether there is {name!r} is unknown ({cell}); write 0 or 1, or "
                "leave the image out"
            )
        if cell not in _NUMBERS:
            raise UserError(
                f"{path}, {row}: {cell!r} for {name!r} is neither 0 nor 1; above names of classes "
                "the header is `image,labels` or none"
            )
        return _NUMBERS[cell]

    return _source(path, rows, objects)


def _classes_of_columns(
    path: Path, header: _Row, rows: Sequence[_Row], classes: Sequence[str] | None
) -> set[str]:
    """The names, in the header, of columns for objects."""
    if classes is None:
        classes = _classes_of_header(header)
    found: dict[int, str] = {}
    for name in header.cells:
        index = class_index(name, classes)
        if index is None and name.casefold() == MASK:
            continue
        if not index:
            cells = {cell for row in rows[:1] for cell in row.cells}
            if not name or cells - _NUMBERS.keys() - set(_UNKNOWN):
                raise UserError(f"{path}: the header must be {HEADERS}, or left out above names")
            problem = f"there is no class {name!r}; did you mean {nearest_class(name, classes)!r}?"
            if index == 0:
                problem = f"{name!r} is no object; remove its column"
            raise UserError(f"{path}, header: {problem}")
        if index in found:
            raise UserError(
                f"{path}, header: {found[index]!r} and {name!r} are one class; remove one of them"
            )
        found[index] = name
    if not found:
        raise UserError(f"{path}: the header names neither labels nor classes; write {HEADERS}")
    return set(found.values())


def _classes_of_header(header: _Row) -> list[str]:
    """The classes where any column of 0 and 1 is one: the first spelling of each name."""
    names = {plain_name(name): name for name in reversed(header.cells) if name}
    return ["background", *(name for plain, name in names.items() if plain not in _NO_OBJECTS)]


def _source(path: Path, rows: list[_Row], objects: Callable[[_Row], list[str]]) -> Source:
    for row in rows:
        if not row.name:
            raise UserError(f"{path}, {row}: a row without an image; its name comes first")
    return Source(
        [row.name for row in rows],
        lambda number: objects(rows[number]),
        lambda number: str(rows[number]),
    )


def _separator(text: str, images: Sequence[Path]) -> str:
    """The separator that most images' names stand before; the comma of equals."""
    wanted = {IMAGE}
    for image in images:
        wanted.update((_file_name(image.name), _file_name(image.stem)))
    lines = [line for line in text.splitlines() if line]

    def images_named(separator: str) -> int:
        return sum(_file_name(_first_cell(line, separator)) in wanted for line in lines)

    return max(SEPARATORS, key=images_named)


def _first_cell(line: str, separator: str) -> str:
    if not line.startswith('"'):
        return line.split(separator, 1)[0].strip()
    quoted = _QUOTED.match(line)
    if quoted is None or quoted[2] not in ("", separator):
        return line
    return quoted[1].replace('""', '"')


def _file_name(name: str) -> str:
    """A name in small letters, without its folders (Windows' too)."""
    return normal(name.replace("\\", "/").rpartition("/")[2]).casefold()


def json_source(path: Path, content: dict[str, Any]) -> Source:
    """The labels in `{"a.jpg": ["cat", "sofa"], ...}`; `UserError` where it is not that."""
    for name, objects in content.items():
        if not _are_names(objects):
            raise UserError(f'{path}, {name}: expected a list of class names, as ["cat", "sofa"]')
    names = list(content)
    return Source(names, lambda number: content[names[number]], names.__getitem__)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, in which no name comes twice; `OSError` or `ValueError` if it is none."""
    content = json.loads(read_text(path), object_pairs_hook=_without_repetition)
    if not isinstance(content, dict):
        raise ValueError('expected {"a.jpg": ["cat", "sofa"], ...}')
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # a dictionary alone would keep the last of two equal names
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice} twice; remove one of them")
    return content


def read_json_lines(path: Path) -> Source:
    """Lines `{"file_name": "a.jpg", "labels": ["cat"]}`, as Hugging Face's image folders have.

    Raises:
        UserError: a line is not that.
        OSError, ValueError: the file cannot be read.
    """
    names, labels, places = [], [], []
    # only \n ends a line: JSON's strings may hold others that splitlines() knows
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            content = json.loads(line, object_pairs_hook=_without_repetition)
        except ValueError as error:
            raise UserError(f"{path}, {place}: {error}; write one JSON object a line") from error
        content = content if isinstance(content, dict) else {}
        name, objects = content.get("file_name"), content.get("labels")
        objects = [objects] if isinstance(objects, str) else objects
        if not (isinstance(name, str) and name and _are_names(objects)):
            raise UserError(
                f'{path}, {place}: expected {{"file_name": "a.jpg", "labels": ["cat"]}}, '
                "with names of classes"
            )
        names.append(name)
        labels.append(objects)
        places.append(f"{place} ({name})")
    return Source(names, labels.__getitem__, places.__getitem__)


def _are_names(objects: Any) -> bool:
    return isinstance(objects, list) and all(isinstance(item, str) for item in objects)


def read_text(path: Path) -> str:
    """A file's text; `OSError` or `ValueError` if it cannot be read or is none."""
    content = path.read_bytes()
    # spreadsheets save "Unicode text" in UTF-16
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("not UTF-8 text; save it as UTF-8")
    return text


def normal(name: str) -> str:
    """A name with its letters composed: some systems decompose those of files (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
