"""Where MS COCO 2014 keeps its files under a data root.

All paths are relative to the data root, as the file lists hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOP = Path("coco")
ANNOTATIONS = TOP / "annotations"
MASKS = TOP / "masks"

# In a data root that mini-COCO was drawn into: with what settings, and whether all of it.
MINI_COCO_MARKER = Path("mini_coco.json")


@dataclass(frozen=True)
class Split:
    """A part of COCO, as train2014; `list` is the name of its file list."""

    name: str
    list: str

    @property
    def images(self) -> Path:
        """The folder of its images."""
        return TOP / self.name

    @property
    def masks(self) -> Path:
        """The folder of its masks: those painted here, or a link to somebody's."""
        return MASKS / self.name

    @property
    def annotations(self) -> Path:
        """Its objects, as JSON."""
        return ANNOTATIONS / f"instances_{self.name}.json"


TRAIN = Split("train2014", "train_coco.csv")
VAL = Split("val2014", "val_coco.csv")
SPLITS = (TRAIN, VAL)


def is_mini_coco(root: Path) -> bool:
    """Whether mini-COCO was drawn into `root`."""
    return (root / MINI_COCO_MARKER).is_file()
