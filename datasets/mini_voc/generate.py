"""Writing mini-VOC to disk, file for file as VOC 2012 and SBD are laid out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix
from tqdm import tqdm

from datasets.files import write_mask
from datasets.mini_voc.output import require_settings, write_jpeg, write_once
from datasets.mini_voc.scene import Scene, draw_scene
from datasets.mini_voc.splits import PlannedImage, plan_images
from datasets.voc import PASCAL_VOC
from datasets.voc.layout import MINI_VOC_MARKER, SBD, VOC
from utils.files import atomic_path, write_text

# Raised whenever the same seed would give other files than before.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class MiniVocSettings:
    """What decides the files' content.

    Attributes:
        seed: a whole number from 0.
        train: images in train_augvoc, 20 to 5000.
        val: images in val_voc, 20 to 5000.
    """

    seed: int = 0
    train: int = 480
    val: int = 100


def generate(out: Path, settings: MiniVocSettings) -> None:
    """Write mini-VOC under `out`, unless it is there already; see `write_once`.

    Raises:
        UserError: as `write_once`, and for sizes out of range.
    """
    require_settings(settings.seed, train=settings.train, val=settings.val)
    planned = plan_images(
        PASCAL_VOC.classes[1:], settings.train, settings.val, np.random.default_rng(settings.seed)
    )

    def draw() -> None:
        for number, image in enumerate(tqdm(planned, desc="drawing mini-VOC", disable=None)):
            width, height = image.size
            # a generator of its own for each image, so that no image depends on those before it
            image_rng = np.random.default_rng([settings.seed, number])
            _write_image(out, image, draw_scene(image.classes, height, width, image_rng))
        for path, ids in _id_lists(planned).items():
            write_text(out / path, "".join(f"{image_id}\n" for image_id in ids))
        print(f"wrote {len(planned)} images with their masks under {out}")

    made = {"format": FORMAT_VERSION, **asdict(settings)}
    # the lists that datasets.prepare made from an earlier one are of no use any more
    earlier = [VOC.path.parts[0], SBD.path.parts[0], *PASCAL_VOC.expected_counts]
    write_once(out, MINI_VOC_MARKER, made, list(_planned_files(planned)), earlier, draw)


def _planned_files(planned: Sequence[PlannedImage]) -> Iterator[Path]:
    """Every file of a whole mini-VOC but the marker, relative to its folder."""
    yield from _id_lists(planned)
    for image in planned:
        if image.voc_split:
            yield from (VOC.image(image.id), VOC.mask(image.id))
        if image.sbd_split:
            yield from (SBD.image(image.id), SBD.mat(image.id))


def _write_image(out: Path, image: PlannedImage, scene: Scene) -> None:
    """Write an image and its masks to each of the two data sets that have it."""
    indices = [0, *(PASCAL_VOC.classes.index(name) for name in scene.classes)]
    segmentation = np.array(indices, dtype=np.uint8)[scene.instances]
    if image.voc_split:
        write_jpeg(out / VOC.image(image.id), scene.image)
        # only VOC's masks have a border: in SBD every pixel has a class
        bordered = np.where(_border(scene.instances), PASCAL_VOC.ignore_index, segmentation)
        write_mask(out / VOC.mask(image.id), bordered, PASCAL_VOC.palette)
    if image.sbd_split:
        write_jpeg(out / SBD.image(image.id), scene.image)
        _write_mat(out / SBD.mat(image.id), segmentation)


def _border(labels: np.ndarray) -> np.ndarray:
    """True on both sides of every edge between different `labels`, H×W: a line of 2 pixels."""
    border = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        here, there = np.moveaxis(border, axis, 0)[:-1], np.moveaxis(border, axis, 0)[1:]
        edge = np.moveaxis(np.diff(labels.astype(int), axis=axis) != 0, axis, 0)
        here |= edge
        there |= edge
    return border


def _write_mat(path: Path, segmentation: np.ndarray) -> None:
    """Write a mask as SBD does: a struct GTcls of Boundaries, Segmentation, CategoriesPresent.

    Boundaries is a 20×1 cell of sparse logical maps, one a class: the class's pixels at its edge.
    """
    num_objects = PASCAL_VOC.num_classes - 1
    boundaries = np.empty((num_objects, 1), dtype=object)
    for index in range(num_objects):
        member = segmentation == index + 1
        boundaries[index, 0] = csc_matrix(_border(member) & member)
    present = np.unique(segmentation[segmentation > 0])
    struct = {
        "Boundaries": boundaries,
        "Segmentation": segmentation,
        "CategoriesPresent": present[:, None],
    }
    with atomic_path(path) as temporary:
        savemat(temporary, {"GTcls": struct}, appendmat=False, do_compression=True)


def _id_lists(planned: Sequence[PlannedImage]) -> dict[Path, list[str]]:
    """The ids in each of the two data sets' id lists, by its path in mini-VOC's folder."""
    files = {
        VOC.id_list(split): [image.id for image in planned if image.voc_split == split]
        for split in ("train", "val")
    }
    files[VOC.id_list("trainval")] = [image.id for image in planned if image.voc_split]
    for split in ("train", "val"):
        files[SBD.id_list(split)] = [image.id for image in planned if image.sbd_split == split]
    return files
