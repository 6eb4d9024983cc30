"""COCO's file lists and masks, made of what is shipped: what `datasets.prepare` does for coco."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.coco import COCO
from datasets.coco.annotations import CocoImage, lacking_files, read_annotations
from datasets.coco.errors import broken
from datasets.coco.layout import SPLITS, TOP, TRAIN, VAL, Split, is_mini_coco
from datasets.coco.masks import (
    given_masks,
    link_masks,
    mask_path,
    paint_masks,
    require_pycocotools,
)
from datasets.lists import IMAGE, LABELS, MASK, csv_text
from utils.errors import UserError, first_few, os_errors_end_in
from utils.files import remove_leftovers, write_changed


@dataclass(frozen=True)
class Part:
    """A split with all that its list says.

    Attributes:
        split: the part of COCO.
        images: what the annotations say of it.
        masks: the masks by the images' names, there or to be painted; empty for a split without.
        painted: whether they are painted here, rather than somebody else's.
    """

    split: Split
    images: Sequence[CocoImage]
    masks: Mapping[str, Path]
    painted: bool

    @property
    def listed(self) -> list[CocoImage]:
        """The images of its list: all, but that evaluation wants masks.

        Others' masks mostly leave out the images without objects. Raises `UserError` where one
        with objects lacks its mask.
        """
        if self.split is not VAL or self.painted:
            return list(self.images)
        lacking = [image for image in self.images if image.name not in self.masks]
        if with_objects := [image.name for image in lacking if image.instances]:
            raise UserError(
                f"{self.split.masks} lacks masks of images with objects, {len(with_objects)} in "
                f"all: {first_few(with_objects)}; remove it to have them painted, or name others"
            )
        return [image for image in self.images if image.name in self.masks]

    def list_text(self) -> str:
        """The file list, sorted by the images' names: image, mask where there are any, labels."""
        columns = [IMAGE, *([MASK] if self.masks else []), LABELS]
        rows = [columns]
        for image in self.listed:
            cells = {
                IMAGE: str(self.split.images / image.name),
                MASK: str(self.masks.get(image.name, "")),
                LABELS: " | ".join(COCO.classes[label] for label in image.labels),
            }
            rows.append([cells[column] for column in columns])
        return csv_text(rows)


def read_parts(root: Path, train_masks: bool = False) -> list[Part]:
    """Read the annotations under `root`, and find out which masks there are or should be.

    Args:
        root: the data root.
        train_masks: paint those of the training images, too; where there are any, it is so already.

    Raises:
        UserError: see `read_annotations`; pycocotools is missing where masks are painted.
    """
    to_paint = {split for split in SPLITS if not (root / split.masks).is_symlink()}
    if not train_masks and not (root / TRAIN.masks).exists():
        to_paint.discard(TRAIN)
    if to_paint:
        require_pycocotools()
    parts = []
    for split in SPLITS:
        painted = split in to_paint
        images = read_annotations(root, split, shapes=painted)
        masks: Mapping[str, Path] = {}
        if painted:
            masks = {image.name: mask_path(split, image) for image in images}
        elif (root / split.masks).is_symlink():
            masks = given_masks(root, split, images)
        parts.append(Part(split, images, masks, painted))
    return parts


def prepare_coco(
    root: Path, workers: int = 1, train_masks: bool = False, masks: Path | None = None
) -> list[Part]:
    """Paint COCO's masks under `root` and write its lists; say what changed.

    Nothing is painted before all images are known to be there. What was painted stays. No other
    process may prepare `root` at the same time.

    Args:
        root: the data root.
        workers: processes that paint.
        train_masks: see `read_parts`.
        masks: a folder of masks to use in place of those.

    Returns what was prepared.

    Raises:
        UserError: something is missing, damaged, or cannot be read or written.
    """
    with os_errors_end_in(
        f"{root} and what it links to must be readable and writable, with room for masks and lists"
    ):
        if masks:
            link_masks(root, masks)
        parts = read_parts(root, train_masks)
        for part in parts:
            require_images(root, part)
        texts = {part.split.list: part.list_text() for part in parts}
        changed = sum(
            paint_masks(root, part.split, part.images, workers) for part in parts if part.painted
        )
        remove_leftovers(root, "|".join(map(re.escape, texts)))
        written = [_write_list(root / name, text) for name, text in texts.items()]
        _note_counts(root, parts)
        if not changed and not any(written):
            print("nothing to do: masks and lists were complete")
        return parts


def require_images(root: Path, part: Part) -> None:
    """Raise `DataError` unless all images that the annotations name are there."""
    split = part.split
    if lacking := lacking_files(root, split, part.images):
        if not (root / split.images).is_dir():
            raise broken(root, split.images, "missing")
        raise broken(
            root,
            split.images / lacking[0],
            f"{split.annotations.name} names images that are missing, {len(lacking)} in all",
        )


def _write_list(path: Path, text: str) -> bool:
    """Write a list in one step unless it is there already; True if it was written."""
    written = write_changed(path, text)
    print(f"{path}: {text.count(chr(10)) - 1} images{'' if written else ' (unchanged)'}")
    return written


def _note_counts(root: Path, parts: Sequence[Part]) -> None:
    for part in parts:
        if left_out := len(part.images) - len(part.listed):
            print(
                f"note: {left_out} images without objects have no mask in {part.split.masks}, and "
                f"are left out of {part.split.list}"
            )
        expected = COCO.expected_counts[part.split.list]
        if len(part.images) != expected and not is_mini_coco(root):
            print(
                f"note: {part.split.annotations} has {len(part.images)} images, but COCO 2014 as "
                f"published {expected}; check that it is whole"
            )


def require_annotations(root: Path) -> None:
    """Raise `DataError` unless the annotations of both splits are under `root`."""
    for path in (TOP, *(split.annotations for split in SPLITS)):
        if not (root / path).exists():
            raise broken(root, path, "missing")
