"""MS COCO 2014 as shipped: its three archives, and where its parts are in a copy or an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.coco.layout import ANNOTATIONS, SPLITS, TRAIN, VAL, Split

HOST = "http://images.cocodataset.org"
GB = 1_000_000_000


@dataclass(frozen=True)
class Archive:
    """A part of COCO, and the archive that it is shipped in.

    Attributes:
        path: its folder, relative to the data root.
        address: of the archive, below `HOST` or a mirror.
        md5: the checksum of the whole archive; "" if none is published.
        size: of the archive, in bytes, about.
        unpacked: of what is kept of it, likewise.
        split: of the images; None for the annotations.
    """

    path: Path
    address: str
    md5: str
    size: float
    unpacked: float
    split: Split | None = None

    @property
    def name(self) -> str:
        """What users call it."""
        return f"COCO's {self.path.name}"

    @property
    def filename(self) -> str:
        """Of the archive, whatever address it comes from."""
        return Path(self.address).name

    def urls(self, mirror: str) -> list[str]:
        """Its addresses: at a mirror it may lie at COCO's own path, or beside the others."""
        if not mirror:
            return [f"{HOST}/{self.address}"]
        mirror = mirror.rstrip("/")
        return [f"{mirror}/{self.address}", f"{mirror}/{self.filename}"]

    def find(self, folder: Path) -> Path | None:
        """Its folder in a copy of COCO or in its unpacked archive: in `folder` or one below."""
        name = self.path.name
        places = [folder / name, *sorted(folder.glob(f"*/{name}"))]
        if self.split is None:
            places.append(folder)
        return next(filter(self._is_at, places), None)

    def _is_at(self, folder: Path) -> bool:
        if self.split is None:
            return all((folder / split.annotations.name).is_file() for split in SPLITS)
        return next(folder.glob("*.jpg"), None) is not None


# the annotations first: they tell whether images are whole
ARCHIVES = (
    Archive(
        ANNOTATIONS,
        "annotations/annotations_trainval2014.zip",
        "",
        size=0.25 * GB,
        unpacked=0.5 * GB,
    ),
    Archive(
        TRAIN.images,
        "zips/train2014.zip",
        "0da8c0bd3d6becc4dcb32757491aca88",
        size=13.5 * GB,
        unpacked=13.5 * GB,
        split=TRAIN,
    ),
    Archive(
        VAL.images,
        "zips/val2014.zip",
        "a3d79f5ed8d289b7a7554ce06a5782b3",
        size=6.7 * GB,
        unpacked=6.7 * GB,
        split=VAL,
    ),
)
