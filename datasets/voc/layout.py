"""Where VOC 2012 and SBD keep their files under a data root.

All paths are relative to the data root, as the file lists hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VocFolder:
    """A VOCdevkit year: images, masks and the id lists of its splits."""

    path: Path

    def image(self, image_id: str) -> Path:
        """The JPEG of `image_id`."""
        return self.path / "JPEGImages" / f"{image_id}.jpg"

    def mask(self, image_id: str) -> Path:
        """The palette PNG with the class indices of `image_id`."""
        return self.path / "SegmentationClass" / f"{image_id}.png"

    def id_list(self, split: str) -> Path:
        """The ids of `split` (train, val, trainval or test), one a line."""
        return self.path / "ImageSets" / "Segmentation" / f"{split}.txt"


@dataclass(frozen=True)
class SbdFolder:
    """SBD's `dataset` folder: images, MATLAB masks, the PNGs made from these, and the id lists."""

    path: Path

    @property
    def mat_folder(self) -> Path:
        """The folder of the MATLAB masks, as shipped."""
        return self.path / "cls"

    @property
    def png_folder(self) -> Path:
        """The folder of the PNG masks that `datasets.prepare` makes."""
        return self.path / "cls_png"

    def image(self, image_id: str) -> Path:
        """The JPEG of `image_id`."""
        return self.path / "img" / f"{image_id}.jpg"

    def mat(self, image_id: str) -> Path:
        """The MATLAB file whose GTcls.Segmentation is the mask of `image_id`, as shipped."""
        return self.mat_folder / f"{image_id}.mat"

    def mask(self, image_id: str) -> Path:
        """The palette PNG that `datasets.prepare` makes from `mat`."""
        return self.png_folder / f"{image_id}.png"

    def id_list(self, split: str) -> Path:
        """The ids of `split` (train or val), one a line."""
        return self.path / f"{split}.txt"


@dataclass(frozen=True)
class AugFolder:
    """SegmentationClassAug: SBD's masks and VOC's as PNGs, of images that VOC has."""

    path: Path

    def image(self, image_id: str) -> Path:
        """VOC's JPEG of `image_id`."""
        return VOC.image(image_id)

    def mask(self, image_id: str) -> Path:
        """The PNG with the class indices of `image_id`."""
        return self.path / f"{image_id}.png"


VOC = VocFolder(Path("voc/VOCdevkit/VOC2012"))
VOC_TEST = VocFolder(Path("voc_test/VOCdevkit/VOC2012"))
SBD = SbdFolder(Path("sbd/benchmark_RELEASE/dataset"))
SBD_AUG = AugFolder(Path("sbd_aug"))

# In a data root that mini-VOC was drawn into: with what settings, and whether all of it.
MINI_VOC_MARKER = Path("mini_voc.json")


def parse_ids(path: Path) -> set[str]:
    """The ids in an id list, one a line.

    Raises:
        ValueError: the file is no text, has no ids, or one that is not a plain file name; the text
            says so.
        OSError: it cannot be read.
    """
    try:
        ids = set(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError("this id list is no text") from error
    if not ids:
        raise ValueError("this id list holds no ids")
    for image_id in sorted(ids):
        # ids become parts of paths, and must not lead to other folders
        if "/" in image_id or image_id in (".", "..") or not image_id.isprintable():
            raise ValueError(f"this id list holds {image_id!r}, which is no file name")
    return ids
