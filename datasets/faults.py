"""What can be wrong with a file under a data root, and what to do about it."""

from __future__ import annotations

import shlex
from pathlib import Path

from datasets.collection import SBD_TRAINVAL, VOC_TEST_IMAGES, VOC_TRAINVAL, Collection
from datasets.layout import MINI_VOC_MARKER, SBD
from utils.errors import UserError


class DataError(UserError):
    """Something wrong with one file or folder of the data.

    Attributes:
        path: where it is.
        problem: what is wrong.
        remedy: what to do.
    """

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        # all three are the exception's arguments: as such they come through from other processes
        super().__init__(path, problem, remedy)
        self.path, self.problem, self.remedy = path, problem, remedy

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.remedy}"


def missing(root: Path, path: Path) -> DataError:
    """The error of `root`/`path`, which is not there: of the highest folder that is not, if any.

    `path` belongs to one of the collections and, as in all functions here, starts at `root`.
    """
    collection = _collection_of(path)
    if not (root / collection.path).is_dir():
        remedy = how_to_restore(root, collection.path)
        return DataError(root / collection.path, f"there is no {collection.name}", remedy)
    folders = [folder for folder in path.parents if folder.is_relative_to(collection.path)]
    gone = next((folder for folder in reversed(folders) if not (root / folder).exists()), path)
    return DataError(root / gone, "missing", how_to_restore(root, gone))


def how_to_restore(root: Path, path: Path) -> str:
    """What to do where `root`/`path` is missing or broken."""
    there = (root / path).exists()
    if path.is_relative_to(SBD.png_folder):
        return f"{'delete it and ' if there else ''}run `{prepare_command(root)}`"
    if is_mini_voc(root):
        command = f"python -m datasets.mini_voc --out {shlex.quote(str(root))}"
        return f"{'delete it and ' if there else ''}draw mini-VOC again: {command}"
    collection = _collection_of(path)
    if not (root / collection.path).is_dir():
        return (
            f"run `{_get_command(root, collection)}`, which takes the folder or the archive that "
            f"{collection.variable}=PATH before it names"
            + (", or else downloads it" if collection.source else "")
        )
    parts = (root / part for part in (path, *path.parents[:-1]))
    link = next((part for part in parts if part.is_symlink()), None)
    if link:
        return f"mend your copy ({link} is a link to {link.resolve()})"
    return f"delete {root / collection.top} and run `{_get_command(root, collection)}`"


def prepare_command(root: Path) -> str:
    """The command that converts masks and writes lists under `root`."""
    return f"python -m datasets.prepare --root {shlex.quote(str(root))}"


def is_mini_voc(root: Path) -> bool:
    """Whether mini-VOC was drawn into `root`."""
    return (root / MINI_VOC_MARKER).is_file()


def _get_command(root: Path, collection: Collection) -> str:
    variables = [] if root == Path("data") else [f"DATA_ROOT={shlex.quote(str(root))}"]
    if collection.source is None:
        variables.append(f"{collection.variable}=PATH")
    return " ".join([*variables, "bash launch/get_data.sh"])


def _collection_of(path: Path) -> Collection:
    collections = (VOC_TRAINVAL, SBD_TRAINVAL, VOC_TEST_IMAGES)
    return next(each for each in collections if path.is_relative_to(each.path))
