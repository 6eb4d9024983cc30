"""Data errors: what is wrong with a file under a data root, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

from datasets.voc import PASCAL_VOC
from datasets.voc.archives import SBD_TRAINVAL, VOC_TEST_IMAGES, VOC_TRAINVAL, ShippedDataset
from datasets.voc.layout import MINI_VOC_MARKER, SBD
from datasets.voc.sbd_aug import SBD_AUG_MASKS
from utils.errors import UserError, python_command


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

    `path` belongs to one of the shipped data sets and, as in all functions here, starts at `root`.
    """
    dataset = _dataset_of(path)
    if not (root / dataset.path).is_dir():
        remedy = how_to_restore(root, dataset.path)
        return DataError(root / dataset.path, f"there is no {dataset.name}", remedy)
    folders = [folder for folder in path.parents if folder.is_relative_to(dataset.path)]
    gone = next((folder for folder in reversed(folders) if not (root / folder).exists()), path)
    return DataError(root / gone, "missing", how_to_restore(root, gone))


def how_to_restore(root: Path, path: Path) -> str:
    """What to do where `root`/`path` is missing or broken."""
    there = (root / path).exists()
    if path.is_relative_to(SBD.png_folder):
        return f"{'delete it and ' if there else ''}run `{PASCAL_VOC.prepare_command(root)}`"
    if is_mini_voc(root):
        command = python_command("datasets.mini_voc", "--out", str(root))
        return f"{'delete it and ' if there else ''}draw mini-VOC again: {command}"
    dataset = _dataset_of(path)
    if not (root / dataset.path).is_dir():
        return _how_to_get(root, dataset)
    parts = (root / part for part in (path, *path.parents[:-1]))
    link = next((part for part in parts if part.is_symlink()), None)
    if link:
        return f"mend your copy ({link} is a link to {link.resolve()})"
    return f"delete {root / dataset.top} and run `{_get_command(root, dataset)}`"


def how_to_replace(root: Path, path: Path) -> str:
    """What to do where `root`/`path` belongs to another copy than is wanted."""
    if is_mini_voc(root):
        return "choose another data root, for this one holds mini-VOC"
    return _how_to_get(root, _dataset_of(path))


def _how_to_get(root: Path, dataset: ShippedDataset) -> str:
    top = root / dataset.top
    in_the_way = top.exists() or top.is_symlink()
    return (
        f"{f'remove {top} and ' if in_the_way else ''}run `{_get_command(root, dataset)}`, "
        f"which takes the folder{'' if dataset is SBD_AUG_MASKS else ' or the archive'} that "
        f"{dataset.variable}=PATH before it names"
        + (", or else downloads it" if dataset.source else "")
    )


def is_mini_voc(root: Path) -> bool:
    """Whether mini-VOC was drawn into `root`."""
    return (root / MINI_VOC_MARKER).is_file()


def _get_command(root: Path, dataset: ShippedDataset) -> str:
    variable = "" if dataset.source else f"{dataset.variable}=PATH "
    return variable + PASCAL_VOC.get_command(root)


def _dataset_of(path: Path) -> ShippedDataset:
    shipped = (VOC_TRAINVAL, SBD_TRAINVAL, SBD_AUG_MASKS, VOC_TEST_IMAGES)
    return next(each for each in shipped if path.is_relative_to(each.path))
