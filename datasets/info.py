"""What a data set is: its classes, their colours, and the names of its lists.

To add one, add its `DatasetInfo` to `DATASETS`, and its lists to the data root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from utils.errors import UserError


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
        get_command: brings the data set and its lists, for error messages; "" if nothing does.
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
    get_command: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.classes)

    def turns(self, image: Path) -> bool:
        """Whether a listed image is turned as its EXIF orientation says.

        `exif` says so for the data set's own images. All other images are
        treated as ordinary photographs and are rotated.
        """
        return self.exif or not self._is_own(image)

    def remedy_for_list(self, filelist: Path) -> str:
        """What helps where a list cannot be read: the command that makes the data set's own."""
        own = {self.train_list, *self.val_lists.values(), *self.expected_counts}
        if self.get_command and filelist.name in own:
            return f"`{self.get_command}` gets {self.name} with its lists"
        return "check its path"

    def command_for_file(self, path: Path) -> str:
        """The end of a message about a missing image or mask: how to get it, if it is its own."""
        if self.get_command and self._is_own(path):
            return f", or get {self.name} by `{self.get_command}`"
        return ""

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
    get_command="bash launch/get_data.sh",
)

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType({PASCAL_VOC.name: PASCAL_VOC})


def get_dataset_info(name: str) -> DatasetInfo:
    """The `DatasetInfo` called `name`; a `UserError` names the known ones if there is none."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]
