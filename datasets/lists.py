"""File lists: which images there are, with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.info import DatasetInfo
from utils.errors import UserError, reason


@dataclass(frozen=True)
class ListEntry:
    """One line of a file list.

    Attributes:
        image: the image's path.
        mask: the ground-truth mask's path, or None where the list has no mask column.
        exif: whether the image is turned as its EXIF orientation says (`DatasetInfo.turns`).
    """

    image: Path
    mask: Path | None
    exif: bool = True

    @property
    def id(self) -> str:
        """The image's file name without its extension; results are named after it."""
        return self.image.stem


def read_list(
    path: str | Path, root: str | Path, info: DatasetInfo | None = None
) -> list[ListEntry]:
    """Read a file list: a line an image, `IMAGE MASK` or `IMAGE`, relative to `root`.

    A leading slash and blank lines are tolerated; `info` says whether images are turned, without it
    all are. Raises
    `UserError` for a list that is missing, empty, or has a line of more than two columns.
    """
    path, root = Path(path), Path(root)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise ValueError("it is no text")
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the file list {path} ({reason(error)}); "
            f"{info.remedy_for_list(path, root) if info else 'check its path'}"
        ) from error

    entries: list[ListEntry] = []
    for number, line in enumerate(lines, start=1):
        columns = list_columns(line)
        if not columns:
            continue
        if len(columns) > 2:
            raise UserError(
                f"{path}, line {number}: expected `IMAGE MASK`, found {line!r}; names with spaces "
                "cannot be listed"
            )
        image, *mask = (root / column for column in columns)
        entries.append(
            ListEntry(image, mask[0] if mask else None, info is None or info.turns(image))
        )
    if not entries:
        raise UserError(f"the file list {path} is empty")
    return entries


def list_columns(line: str) -> tuple[Path, ...]:
    """The paths in a line of a file list, which start at the data root with or without a slash."""
    return tuple(Path(column.lstrip("/")) for column in line.split())


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
    """Raise `UserError` where a line of a list has no mask column.

    The message begins with `lack`, what that means to the caller, and ends in `remedy`.
    """
    for entry in entries:
        if entry.mask is None:
            raise UserError(
                f"{lack} for {entry.image}: the list has no mask column there; {remedy}"
            )


def require_files(entries: Sequence[ListEntry], root: str | Path, info: DatasetInfo) -> None:
    """Raise `UserError`, which names the first, where images or masks of a list are missing.

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
        raise UserError(
            f"{kind} {path} does not exist{others} of the {len(named)} files that the list names; "
            f"check the data root (DATASET.PATH, TEST.DATA_ROOT){remedy and f', or {remedy}'}"
        )


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it is there in some way; opening it will say which
    return False
