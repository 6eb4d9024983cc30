"""What lies in a folder of images: the images, other files, and perhaps their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from datasets.images import image_suffixes
from utils.errors import UserError, os_errors_end_in

LABELS_FILES = (
    *("labels.csv", "labels.tsv", "labels.txt"),
    *("labels.json", "labels.jsonl", "metadata.jsonl"),
)
"""What labels are called where no option names them."""


@dataclass(frozen=True)
class FolderContent:
    """The files in a folder and its subfolders, hidden ones left out.

    Attributes:
        folder: its absolute path.
        names: the images', told by their suffixes: paths relative to the folder, sorted.
        others: those of the other files.
    """

    folder: Path
    names: list[str]
    others: list[str]

    @cached_property
    def paths(self) -> list[Path]:
        """The images' absolute paths."""
        return [self.folder / name for name in self.names]


def list_folder(folder: Path) -> FolderContent:
    """List a folder; no file is opened.

    Raises:
        UserError: it is no folder, cannot be read, has less than two images, or a name that is not
            UTF-8, which no list could hold.
    """
    # not resolved if that can be: the name that a link gives is the user's
    folder = folder.resolve() if ".." in folder.parts else folder.absolute()
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {problem}; name a folder of images")
    suffixes = image_suffixes()
    names: list[str] = []
    others: list[str] = []
    with os_errors_end_in("make it and its subfolders readable"):
        for name in _files_below(folder, "", []):
            is_image = PurePosixPath(name).suffix.lower() in suffixes
            (names if is_image else others).append(name)
    if not names:
        raise UserError(
            f"{folder} has no images ({len(others)} other files); give images a suffix such as "
            ".jpg or .png"
        )
    if len(names) == 1:
        raise UserError(
            f"{folder} has one image alone, {names[0]}, and nothing to validate on; add others"
        )
    for name in (str(folder), *names):
        if not _is_utf_8(name):
            raise UserError(f"the name {name!a} is not UTF-8; rename it")
    return FolderContent(folder, sorted(names), sorted(others))


def _files_below(folder: Path, prefix: str, above: list[tuple[int, int]]) -> Iterator[str]:
    """Relative paths of files; links are followed, but for those to a folder that they are in."""
    status = folder.stat()
    identity = status.st_dev, status.st_ino
    if identity in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files_below(
                    Path(entry.path), f"{prefix}{entry.name}/", [*above, identity]
                )
            else:
                yield prefix + entry.name


def _is_utf_8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_labels_source(content: FolderContent, written: Path | None = None) -> Path:
    """The labels of a folder's images where no option names them.

    That is the one file in the folder or beside it which is called as one of `LABELS_FILES`, or the
    folder itself if all of its images are in two or more subfolders, a class each.

    Args:
        content: the folder's.
        written: a file of labels, resolved, that was written for this data set: no source.

    Raises:
        UserError: there are none, or several.
    """
    folder = content.folder
    files = [
        place / name
        for place in (folder, folder.parent)
        for name in LABELS_FILES
        if (place / name).is_file() and (place / name).resolve() != written
    ]
    if len(files) > 1:
        raise UserError(f"{files[0]} and {files[1]} may both be the labels; name one as --labels")
    if files:
        return files[0]
    tops = {name.partition("/")[0] if "/" in name else "" for name in content.names}
    if len(tops) > 1 and "" not in tops:
        return folder
    raise UserError(
        f"there are no labels for {folder}; give --labels FILE, such as rows `a.jpg,cat,dog`, or "
        "sort the images into a folder a class"
    )
