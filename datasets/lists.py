"""File lists: which images there are, with their masks. Lines `IMAGE MASK`, or a CSV table."""

from __future__ import annotations

import csv
import glob
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.info import DatasetInfo
from utils.errors import MissingError, UserError, reason

IMAGE, MASK, LABELS = "image", "mask", "labels"
"""The columns of a table that are read, by the cells of its header."""
SEPARATORS = (",", ";", "\t")
TABLE_REMEDY = f"names with spaces want a table: the first line `{IMAGE},{MASK}`, then commas too"


@dataclass(frozen=True)
class ListEntry:
    """One image of a file list.

    Attributes:
        image: the image's path; where a mask stands alone, in no list, the mask's.
        mask: the ground-truth mask's path, or None where the list names none.
        exif: whether the image is turned as its EXIF orientation says (`DatasetInfo.turns`).
        labels: what a table's cell says about the image's objects, as it stands there; "" means no
            objects, None that the list has no such column.
    """

    image: Path
    mask: Path | None
    exif: bool = True
    labels: str | None = None

    @property
    def id(self) -> str:
        """The image's file name without its extension; results are named after it."""
        return self.image.stem

    @property
    def has_image(self) -> bool:
        """Whether there is more than a mask that stands alone."""
        return self.image != self.mask


def read_list(
    path: str | Path, root: str | Path, info: DatasetInfo | None = None
) -> list[ListEntry]:
    """Read a file list, whose paths are relative to `root`; a leading slash is tolerated.

    It has a line an image, `IMAGE MASK` or `IMAGE`, or it is a CSV table whose header names the
    columns `image` and, where there are any, `mask` and `labels`, in any order and case, separated
    by commas, semicolons or tabs; other columns are ignored. Names with spaces take a table.

    Args:
        path: the list, UTF-8. A cell of its first line that says `image` makes it a table.
        root: the data root.
        info: says whether images are turned; without it all are.

    Raises:
        UserError: the list is missing, empty or no UTF-8; a line has more than two columns; a table
            is no CSV, has a column twice or none of images, a row without an image, or one with
            more or fewer cells than the header.
    """
    path, root = Path(path), Path(root)
    text = _read_text(path, root, info)
    separator = _table_separator(text, path)
    rows = _line_rows(text, path) if separator is None else _table_rows(text, path, separator)
    entries: list[ListEntry] = []
    for row in rows:
        image = root / _relative(row[IMAGE])
        mask = root / _relative(row[MASK]) if row.get(MASK) else None
        exif = info is None or info.turns(image)
        entries.append(ListEntry(image, mask, exif, row.get(LABELS)))
    if not entries:
        raise UserError(f"the file list {path} is empty")
    return entries


def list_columns(line: str) -> tuple[Path, ...]:
    """The paths in a line `IMAGE MASK`, which start at the data root with or without a slash."""
    return tuple(_relative(column) for column in line.split())


def _relative(column: str) -> Path:
    return Path(column.lstrip("/"))


def _read_text(path: Path, root: Path, info: DatasetInfo | None) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"cannot read the file list {path} ({reason(error)}); "
            f"{info.remedy_for_list(path, root) if info else 'check its path'}"
        ) from error
    except UnicodeDecodeError:
        text = "\0"  # of which no text has any either
    if "\0" in text:
        raise UserError(f"the file list {path} is no UTF-8 text; save it as UTF-8")
    return text


def _table_separator(text: str, path: Path) -> str | None:
    """What separates the columns of a table, told by its first line; None if these are lines."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for separator in SEPARATORS:
        names = [_column_name(cell.strip().strip('"')) for cell in first.split(separator)]
        if IMAGE in names:
            return separator
        if MASK in names or LABELS in names:
            raise UserError(
                f"{path}: the header {first!r} has no column `{IMAGE}`; name the images' column so"
            )
    return None


def _column_name(cell: str) -> str:
    return cell.strip().casefold()


def _line_rows(text: str, path: Path) -> Iterator[dict[str, str]]:
    """What stands in each line `IMAGE MASK` or `IMAGE`, by the name of the column."""
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if len(columns) > 2:
            raise UserError(
                f"{path}, line {number}: expected `IMAGE MASK`, found {line!r}; {TABLE_REMEDY}"
            )
        if columns:
            yield dict(zip((IMAGE, MASK), columns, strict=False))


def _table_rows(text: str, path: Path, separator: str) -> Iterator[dict[str, str]]:
    """What stands in each row of a table, by the names of those of its columns that are read."""
    rows = _csv_rows(text, path, separator)
    number, header = next(rows)
    columns = [_column_name(cell) for cell in header]
    for name in (IMAGE, MASK, LABELS):
        if columns.count(name) > 1:
            raise UserError(f"{path}, line {number}: two columns are called `{name}`; rename one")
    places = {name: columns.index(name) for name in (IMAGE, MASK, LABELS) if name in columns}
    for number, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells, but the header has {len(header)}; "
                f"leave none out, and put names with {separator!r} in quotes"
            )
        row = {name: cells[place] for name, place in places.items()}
        if not row.get(IMAGE):
            raise UserError(f"{path}, line {number}: no image; name one, or remove the row")
        yield row


def _csv_rows(text: str, path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the numbers of the lines where they begin."""
    # newline="": the csv module wants line breaks as they are
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    number = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {number}: not CSV ({error}); close its quotes, and double those inside"
        ) from error


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as CSV, as `read_list` reads tables and `find_labels` labels."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def require_unique_ids(
    entries: Sequence[ListEntry], path: str | Path, ignore_case: bool = False
) -> None:
    """Raise `UserError` where two images of the list or folder `path` share an id.

    Results are named after ids: those of the second image would overwrite those of the first, with
    `ignore_case` also where the ids differ in nothing but capital letters.
    """
    seen: dict[str, Path] = {}
    for entry in entries:
        name = entry.id.casefold() if ignore_case else entry.id
        other = seen.setdefault(name, entry.image)
        if other is not entry.image:
            raise UserError(
                f"{path}: {other} and {entry.image} would write the same result {entry.id}.png; "
                "remove or rename one of them"
            )


def require_masks(entries: Sequence[ListEntry], remedy: str, lack: str = "no ground truth") -> None:
    """Raise `UserError` where a list names no mask for an image.

    The message begins with `lack`, what that means to the caller, and ends in `remedy`.
    """
    for entry in entries:
        if entry.mask is None:
            raise UserError(f"{lack} for {entry.image}: the list names no mask there; {remedy}")


def require_files(entries: Sequence[ListEntry], root: str | Path, info: DatasetInfo) -> None:
    """Raise `MissingError`, which names the first, where images or masks of a list are missing.

    No file is opened, so this is quick.

    Args:
        entries: the list.
        root: the data root.
        info: knows the commands that help where its own files are missing.
    """
    named = [
        (kind, path)
        for entry in entries
        for kind, path in (("image", entry.image), ("mask", entry.mask))
        if path is not None
    ]
    missing = [(kind, path) for kind, path in named if _is_missing(path)]
    if missing:
        kind, path = missing[0]
        others = f", nor do {len(missing) - 1} more" if len(missing) > 1 else ""
        remedy = info.remedy_for_file(path, Path(root))
        if any(mark in path.name for mark in SEPARATORS):
            remedy = f"begin a table with the line `{IMAGE},{MASK}`"
        if any(path.parent.glob(f"{glob.escape(path.name)} *")):
            remedy = TABLE_REMEDY  # a line `my photo.jpg` was read as `my` with a mask `photo.jpg`
        raise MissingError(
            f"{kind} {path} does not exist{others} of the {len(named)} files that the list names; "
            f"check the data root (DATASET.PATH, TEST.DATA_ROOT){remedy and f', or {remedy}'}",
            [str(path) for _, path in missing],
        )


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it is there in some way; opening it will say which
    return False
