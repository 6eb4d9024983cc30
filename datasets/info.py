"""What a data set is: its classes, their colours, and the names of its lists.

To add one, add its `DatasetInfo` to `DATASETS`, and its lists to the data root.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from utils.errors import UserError, python_command


def voc_palette() -> tuple[int, ...]:
    """VOC's colour map as 768 values, R, G and B of the indices 0 to 255.

    An index's bits are dealt to the three channels in turn, lowest first, and fill each channel
    from its highest bit down, so that small indices are far apart in colour.
    """
    colours = []
    for index in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            rgb[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours.extend(rgb)
    return tuple(colours)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's fixed facts.

    Attributes:
        name: the name given to `--dataset`; folders of snapshots and logs carry it.
        classes: class names in index order; index 0 is background.
        palette: 768 values, R, G and B of each mask index.
        ignore_index: the mask value that counts nowhere.
        train_list: the list to train on, relative to the data root.
        val_lists: the lists to validate on, `train` and `val`, by the TensorBoard writer their
            scores go to; the loss on `val` decides which snapshots are kept.
        expected_counts: the official number of lines of each list.
        exif: whether its images are turned as their EXIF orientation says; its masks fit them so,
            or as they are stored.
        folders: names of folders that the data set's own images lie below.
        top: a folder in the data root that is there once some of the data set is.
        get_script: brings the data set and its lists to DATA_ROOT, by default data; "" if nothing
            does.
        prepare_module: writes the lists of data that is in its --root; with --check, says what is
            missing there.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[int, ...]
    ignore_index: int
    train_list: str
    val_lists: Mapping[str, str]
    expected_counts: Mapping[str, int] = field(default_factory=dict)
    exif: bool = True
    folders: tuple[str, ...] = ()
    top: str = ""
    get_script: str = ""
    prepare_module: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.classes)

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
        return python_command(self.prepare_module, "--root", str(root), *options)

    def remedy_for_list(self, filelist: Path, root: Path) -> str:
        """What to do where a list cannot be read."""
        own = {self.train_list, *self.val_lists.values(), *self.expected_counts}
        is_own = filelist.name in own and filelist.parent.absolute() == root.absolute()
        if not self.get_script or not is_own:
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
        return not set(self.folders).isdisjoint(path.parts)


PASCAL_VOC = DatasetInfo(
    name="pascal_voc",
    classes=(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "potted-plant",
        "sheep",
        "sofa",
        "train",
        "tv/monitor",
    ),
    palette=voc_palette(),
    ignore_index=255,
    train_list="train_augvoc.txt",
    val_lists=MappingProxyType({"train": "train_voc.txt", "val": "val_voc.txt"}),
    expected_counts=MappingProxyType(
        {
            "train_augvoc.txt": 10582,
            "train_voc.txt": 1464,
            "val_voc.txt": 1449,
            "test.txt": 1456,
        }
    ),
    exif=False,
    folders=("VOCdevkit", "benchmark_RELEASE"),
    top="voc",
    get_script="launch/get_data.sh",
    prepare_module="datasets.prepare",
)

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType({PASCAL_VOC.name: PASCAL_VOC})


def get_dataset_info(name: str) -> DatasetInfo:
    """The `DatasetInfo` called `name`; a `UserError` names the known ones if there is none."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]
