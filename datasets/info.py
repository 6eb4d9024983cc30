"""What a data set is: its classes, their colours, its lists, and where its labels come from.

A data set is a file, see `datasets.dataset_file`; the known ones are beside this module.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from utils.errors import UserError, python_command
from utils.palette import IGNORE_INDEX, voc_palette


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's fixed facts; paths are relative to the data root, or absolute.

    Attributes:
        name: folders of snapshots and logs carry it.
        classes: class names in index order; index 0 is background.
        train_list: the list to train on.
        val_list: the list to validate on; the loss on it decides which snapshots are kept.
        val_train_list: the part of the training list that is validated too; "" for a sample of it.
        labels: the labels table, or a folder of labels; "" if labels come from masks.
        palette: 768 values, R, G and B of each mask index.
        ignore_index: the mask value that counts nowhere.
        exif: whether its images are turned as their EXIF orientation says; its masks fit them so,
            or as they are stored.
        path: the data root; None for a known data set, which is where DATASET.PATH says.
        expected_counts: the official number of lines of each list.
        folders: names of folders that the data set's own images lie below; empty for all.
        top: a folder in the data root that is there once some of the data set is.
        get_script: brings the data set and its lists to DATA_ROOT, by default data; "" if nothing
            does.
        prepare_module: a module, perhaps with arguments, that writes the lists of data that is in
            its --root; with --check, it says what is missing there.
    """

    name: str
    classes: tuple[str, ...]
    train_list: str
    val_list: str
    val_train_list: str = ""
    labels: str = ""
    palette: tuple[int, ...] = field(default_factory=voc_palette)
    ignore_index: int = IGNORE_INDEX
    exif: bool = True
    path: Path | None = None
    expected_counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    folders: tuple[str, ...] = ()
    top: str = ""
    get_script: str = ""
    prepare_module: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.classes)

    @property
    def lists(self) -> dict[str, str]:
        """The lists by what they are for; `val_train` may be ""."""
        return {"train": self.train_list, "val": self.val_list, "val_train": self.val_train_list}

    @property
    def labels_path(self) -> Path:
        """The labels table, or the folder of labels, of a data set whose `path` is known."""
        return self.path / self.labels

    def at(self, root: str | Path) -> DatasetInfo:
        """The data set, whose data root this is."""
        return replace(self, path=Path(root))

    def turns(self, image: Path) -> bool:
        """Whether a listed image is turned as its EXIF orientation says.

        `exif` says so for the data set's own images. All other images are treated as
        ordinary photographs and are rotated.
        """
        return self.exif or not self._is_own(image)

    def get_command(self, root: Path) -> str:
        """The command that brings the data set and its lists to the data root."""
        variable = "" if root == Path("data") else f"DATA_ROOT={shlex.quote(str(root))} "
        return f"{variable}bash {self.get_script}"

    def prepare_command(self, root: Path, *options: str) -> str:
        """The command that writes the lists of the data that is in the data root."""
        return python_command(*self.prepare_module.split(), "--root", str(root), *options)

    def find_list(self, name: str | Path, root: Path) -> Path:
        """The list that `name` stands for: `train`, `val` or `val_train`, or else a path.

        Known data sets may have their images elsewhere, but their lists in data, where they are
        written by default. Raises `UserError` for a `val_train` that the data set has not.
        """
        listed = self.lists.get(str(name))
        if listed is None:
            return Path(name)
        if not listed:
            raise UserError(f"{self.name} has no {name}; add it to {self.name}'s dataset.yaml")
        path = root / listed
        in_data = Path("data", listed)
        if self.get_script and not path.exists() and (self.path is None or in_data.exists()):
            return in_data
        return path

    def remedy_for_list(self, filelist: Path, root: Path) -> str:
        """What to do where a list cannot be read."""
        own = {*self.lists.values(), *self.expected_counts} - {""}
        is_own = filelist.absolute() in {(root / name).absolute() for name in own}
        if is_own and not self.get_script:
            return "check dataset.yaml, or say where the data is with --set DATASET.PATH FOLDER"
        if not is_own:
            return "check its path"
        if (root / self.top).exists():
            return f"`{self.prepare_command(root)}` writes the lists of {self.name}"
        return f"`{self.get_command(root)}` gets {self.name} with its lists"

    def remedy_for_file(self, path: Path, root: Path) -> str:
        """What to do where an image or mask of a list is missing, in words that follow an "or".

        It is empty for files that are not the data set's own.
        """
        if not self.get_script or not self._is_own(path):
            return ""
        if (root / self.top).exists():
            return f"see what is missing with `{self.prepare_command(root, '--check')}`"
        return f"get {self.name} with `{self.get_command(root)}`"

    def _is_own(self, path: Path) -> bool:
        return not self.folders or not set(self.folders).isdisjoint(path.parts)
