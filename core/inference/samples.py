"""The images of a run of inference: found, checked before it starts, and opened one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from core.config import InferenceConfig
from core.inference.tta import Size, check_crops
from datasets.files import labels_of_mask, read_image, read_pair
from datasets.images import image_suffixes
from datasets.info import DatasetInfo
from datasets.labels import given_labels
from datasets.lists import ListEntry, read_list, require_files, require_masks
from utils.errors import UserError, first_few, os_errors_end_in
from utils.progress import LINES_IN_A_LOG, track


def find_images(
    path: Path, root: str | Path, info: DatasetInfo | None = None
) -> tuple[list[ListEntry], str]:
    """The images that `path` stands for.

    Args:
        path: a folder, for its files with an image's suffix, sorted by name, without hidden ones;
            an image, recognised by its suffix; or else a file list.
        root: what the paths of a list are relative to.
        info: says which images of a list are turned by their EXIF orientation; images that come
            without a list always are.

    Returns:
        The images, and a line about the folder's other files, empty if there are none.

    Raises:
        UserError: the folder cannot be read, has no images, or has a broken link to one; the image
            does not exist; see `read_list`.
    """
    if path.is_dir():
        return _images_in(path)
    if path.suffix.lower() in image_suffixes():
        if not path.exists():
            raise UserError(f"there is no image {path}")
        return [ListEntry(path, None)], ""
    return read_list(path, root, info), ""


def _images_in(folder: Path) -> tuple[list[ListEntry], str]:
    suffixes = image_suffixes()
    images, others = [], []
    with os_errors_end_in("make the folder readable"):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            is_image = path.suffix.lower() in suffixes
            if is_image and not path.exists():
                raise UserError(f"{path} is a broken link; mend or remove it")
            if is_image and path.is_file():
                images.append(path)
            else:
                others.append(f"{path.name}/" if path.is_dir() else path.name)
    if not images:
        raise UserError(
            f"there are no images in {folder} ({len(others)} other files and folders, which are "
            "not searched); give images a suffix such as .jpg or .png"
        )
    entries = [ListEntry(path, None) for path in images]
    if not others:
        return entries, ""
    return entries, (
        f"left out, as folders or no images by their suffix: {first_few(others)} ({folder})"
    )


FEW_IMAGES = 300
"""Up to so many are opened without showing progress."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An opened image of a list.

    Attributes:
        id: names its results.
        image: RGB.
        ground_truth: H×W uint8 class indices, or None where the list has no mask column.
        labels: C−1 float32 zeros and ones, the objects that it is known to have; with None the
            network's scores decide.
    """

    id: str
    image: Image.Image
    ground_truth: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.image.height, self.image.width


def known_labels(
    entries: Sequence[ListEntry], test: InferenceConfig, info: DatasetInfo
) -> dict[str, np.ndarray] | None:
    """The labels that TEST.USE_GT_LABELS takes, for `load_sample`: by id, where there are any.

    They come from the list's own column, or else the data set's labels table.

    Args:
        entries: the list, its ids unique.
        test: the configuration's TEST section.
        info: the data set, whose `path` is the data root.

    Returns:
        C−1 float32 zeros and ones by id; None where labels are those of masks, or are predicted.

    Raises:
        UserError: there are neither labels nor a mask of an image; see `given_labels`.
    """
    if not test.USE_GT_LABELS:
        return None
    labels, _ = given_labels(entries, info)
    if not labels:
        require_masks(
            entries,
            remedy="add it, name the objects with --labels FILE and --set TEST.USE_GT_LABELS "
            "False, or leave them to the network with --set TEST.USE_GT_LABELS False alone",
            lack="TEST.USE_GT_LABELS takes labels from masks, but there is none",
        )
        return None
    return {
        entry.id: found.astype(np.float32) for entry, found in labels.items() if found is not None
    }


def load_sample(
    entry: ListEntry,
    test: InferenceConfig,
    info: DatasetInfo,
    labels: Mapping[str, np.ndarray] | None = None,
) -> Sample:
    """Open an entry's image and, where it names one, its mask.

    Args:
        entry: of a list.
        test: the configuration's TEST section; with USE_GT_LABELS and without `labels`, they come
            from the mask.
        info: the data set.
        labels: those of images by their ids, where they are known (see `Sample.labels`).

    Raises:
        UserError: a file is missing or cannot be read, or the two differ in size.
    """
    known = None if labels is None else labels.get(entry.id)
    if entry.mask is None:
        return Sample(entry.id, read_image(entry.image, entry.exif), labels=known)
    image, ground_truth = read_pair(entry)
    if labels is None and test.USE_GT_LABELS:
        known = labels_of_mask(ground_truth, info.num_classes)
    return Sample(entry.id, image, ground_truth, known)


def check_samples(
    entries: Sequence[ListEntry],
    test: InferenceConfig,
    threads: int,
    root: str | Path,
    info: DatasetInfo,
) -> dict[str, Size]:
    """Open every file of a list once, so that a long run does not fail on the last one.

    More than `FEW_IMAGES` show their progress on stderr.

    Args:
        entries: the list.
        test: the configuration's TEST section.
        threads: files opened at a time.
        root: the data root, and
        info: the data set, for the error about a missing file; see `require_files`.

    Returns:
        Height and width of each image by its path.

    Raises:
        UserError: a missing file; see `load_sample` and `check_crops`.
    """
    if test.METHOD == "multicrop":
        check_crops(test)
    # opening those before the first missing one may take minutes
    require_files(entries, root, info)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        opened = pool.map(lambda entry: load_sample(entry, test, info).size, entries)
        if len(entries) > FEW_IMAGES:
            every = len(entries) // LINES_IN_A_LOG
            opened = track(opened, len(entries), "image", "check", every)
        sizes = list(opened)
    return dict(zip((str(entry.image) for entry in entries), sizes, strict=True))
