"""Writing mini-VOC to disk, file for file as VOC 2012 and SBD are laid out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix
from tqdm import tqdm

from datasets.files import write_mask
from datasets.mini_voc.scene import Scene, draw_scene
from datasets.mini_voc.splits import PlannedImage, plan_images
from datasets.voc import PASCAL_VOC
from datasets.voc.layout import MINI_VOC_MARKER, SBD, VOC
from utils.errors import UserError
from utils.files import atomic_path, only_process, write_text

# Raised whenever the same seed would give other files than before.
FORMAT_VERSION = 2
JPEG_QUALITY = 92
MIN_IMAGES = 20
MAX_IMAGES = 5000


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
    """Write mini-VOC under `out`, unless it is there already, whole and with the same settings.

    A marker file says what `out` holds. It is written before anything is touched and again, as
    complete, after the last file: an interrupted or differently made mini-VOC is replaced, and so
    is one that has lost files. Raises `UserError` for sizes out of range, for a folder that holds
    anything else, and while another process is at work there.
    """
    _check_settings(settings)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    with only_process(out, "datasets.mini_voc"):
        _generate(out, settings)


def _generate(out: Path, settings: MiniVocSettings) -> None:
    marker = out / MINI_VOC_MARKER
    made = {"format": FORMAT_VERSION, **asdict(settings)}
    held = _holds(out)
    planned = plan_images(
        PASCAL_VOC.classes[1:], settings.train, settings.val, np.random.default_rng(settings.seed)
    )
    if held == {**made, "complete": True}:
        missing = [path for path in _planned_files(planned) if not (out / path).is_file()]
        if not missing:
            print(f"{out} already holds this mini-VOC (seed {settings.seed}): nothing to do")
            return
        print(f"{out} has lost {len(missing)} files, {missing[0]} for one: drawing mini-VOC anew")
    write_text(marker, json.dumps({**made, "complete": False}) + "\n")
    _clear(out)

    for number, image in enumerate(tqdm(planned, desc="drawing mini-VOC", disable=None)):
        width, height = image.size
        # a generator of its own for each image, so that no image depends on those before it
        image_rng = np.random.default_rng([settings.seed, number])
        _write_image(out, image, draw_scene(image.classes, height, width, image_rng))
    for path, ids in _id_lists(planned).items():
        write_text(out / path, "".join(f"{image_id}\n" for image_id in ids))
    write_text(marker, json.dumps({**made, "complete": True}) + "\n")
    print(f"wrote {len(planned)} images with their masks under {out}")


def _check_settings(settings: MiniVocSettings) -> None:
    if settings.seed < 0:
        raise UserError(f"--seed {settings.seed} is negative; give a whole number from 0")
    for name in ("train", "val"):
        value = getattr(settings, name)
        if not MIN_IMAGES <= value <= MAX_IMAGES:
            raise UserError(f"--{name} {value} is not between {MIN_IMAGES} and {MAX_IMAGES}")


def _holds(out: Path) -> dict | None:
    """What the marker in `out` says; None where `out` is empty."""
    if not any(out.iterdir()):
        return None
    try:
        return json.loads((out / MINI_VOC_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--out {out} is not empty and no mini-VOC (it has no readable {MINI_VOC_MARKER}); "
            "give a new or empty folder"
        ) from error


def _planned_files(planned: Sequence[PlannedImage]) -> Iterator[Path]:
    """Every file of a whole mini-VOC but the marker, relative to its folder."""
    yield from _id_lists(planned)
    for image in planned:
        if image.voc_split:
            yield from (VOC.image(image.id), VOC.mask(image.id))
        if image.sbd_split:
            yield from (SBD.image(image.id), SBD.mat(image.id))


def _clear(out: Path) -> None:
    """Remove an earlier mini-VOC and the lists made from it; whatever else is in `out` stays."""
    for folder in (VOC.path.parts[0], SBD.path.parts[0]):
        if (out / folder).exists():
            shutil.rmtree(out / folder)
    for name in PASCAL_VOC.expected_counts:
        (out / name).unlink(missing_ok=True)


def _write_image(out: Path, image: PlannedImage, scene: Scene) -> None:
    """Write an image and its masks to each of the two data sets that have it."""
    indices = [0, *(PASCAL_VOC.classes.index(name) for name in scene.classes)]
    segmentation = np.array(indices, dtype=np.uint8)[scene.instances]
    if image.voc_split:
        _write_jpeg(out / VOC.image(image.id), scene.image)
        # only VOC's masks have a border: in SBD every pixel has a class
        bordered = np.where(_border(scene.instances), PASCAL_VOC.ignore_index, segmentation)
        write_mask(out / VOC.mask(image.id), bordered, PASCAL_VOC.palette)
    if image.sbd_split:
        _write_jpeg(out / SBD.image(image.id), scene.image)
        _write_mat(out / SBD.mat(image.id), segmentation)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=JPEG_QUALITY)


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
