"""SegmentationClassAug: masks of SBD and VOC in one folder of PNGs, which many have in SBD's place.

It has no id lists: its ids are the names of its masks. Its images are VOC's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.voc.archives import ShippedDataset
from datasets.voc.layout import SBD_AUG
from utils.errors import UserError


def aug_ids(folder: Path) -> set[str]:
    """The ids whose masks, ID.png, are in a folder."""
    # hidden files are what macOS adds to each of the others
    return {path.stem for path in folder.glob("*.png") if not path.name.startswith(".")}


def listed_aug_ids(folder: Path) -> set[str]:
    """The same, for a list; a `ValueError` says what is wrong where it cannot have them."""
    ids = aug_ids(folder)
    if not ids:
        raise ValueError("there is no ID.png")
    if split := sorted(image_id for image_id in ids if len(image_id.split()) != 1):
        raise ValueError(f"{split[0]}.png has a blank in its name, and is no mask of an image")
    return ids


@dataclass(frozen=True)
class MaskFolder(ShippedDataset):
    """A folder of masks, which is linked as it is."""

    def require_whole(self, folder: Path, remedy: str) -> None:
        """Raise `UserError`, which ends in `remedy`, unless there are masks in `folder`."""
        if not aug_ids(folder):
            raise self._not_whole("there is no ID.png", remedy)

    def locate(self, given: Path, own: Path) -> Path:
        """The folder with masks: `given`, or one in it; of several the one of the usual name.

        Raises:
            UserError: there is none, or more than one.
        """
        inside = sorted(path for path in given.iterdir() if path.is_dir())
        found = [given] if aug_ids(given) else [folder for folder in inside if aug_ids(folder)]
        # a VOC2012 that it was put in has other folders of masks, too
        found = [folder for folder in found if folder.name == self.name] or found
        if len(found) != 1:
            problem = f"{len(found)} folders of ID.png are in it" if found else "no ID.png is in it"
            raise UserError(
                f"{self.variable}={given}: {problem}; name the folder with the masks, {self.name}"
            )
        return found[0]


SBD_AUG_MASKS = MaskFolder(
    name="SegmentationClassAug",
    variable="SBD_AUG",
    path=SBD_AUG.path,
    id_lists=(),
    per_image=(),
    links=(SBD_AUG.path,),
)
