"""The files that say which images a data set has, as it is shipped."""

from __future__ import annotations

from pathlib import Path


def parse_ids(path: Path) -> set[str]:
    """The ids in an id file, one a line.

    Raises:
        ValueError: the file is no text, has no ids, or one that is not a plain file name; the text
            says so.
        OSError: it cannot be read.
    """
    try:
        ids = set(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError("this id file is no text") from error
    if not ids:
        raise ValueError("this id file holds no ids")
    for image_id in sorted(ids):
        # ids become parts of paths, and must not lead to other folders
        if "/" in image_id or image_id in (".", "..") or not image_id.isprintable():
            raise ValueError(f"this id file holds {image_id!r}, which is no file name")
    return ids
