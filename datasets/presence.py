"""Whether the files that a list names are there, asked before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.files import ListEntry
from utils.errors import UserError


def require_files(entries: Sequence[ListEntry]) -> None:
    """Raise `UserError`, which names the first, where images or masks of a list are missing.

    No file is opened, so that this takes no time to speak of.
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
        raise UserError(
            f"{kind} {path} does not exist{others} of the {len(named)} files that the list names; "
            "paths in a list start at the data root (DATASET.PATH, TEST.DATA_ROOT): is it the "
            "right one? `bash launch/get_data.sh` gets VOC and SBD, `python -m datasets.prepare "
            "--check` says what is wrong with data that is there"
        )


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it is there in some way; opening it will say which
    return False
