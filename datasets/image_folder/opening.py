"""Opening all images of a collection: which cannot be read, and the size of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.image_folder.content import FolderContent
from datasets.images import decode, orientation, to_rgb, turned_size
from utils.errors import MissingError, reason
from utils.processes import process_map
from utils.progress import LINES_IN_A_LOG, track

CHUNK = 32
"""Images that a process takes at a time."""
FEWEST_BETWEEN_LINES = 100


def open_images(content: FolderContent, workers: int) -> np.ndarray:
    """Decode all images, and show progress.

    Returns:
        N×2 widths and heights in pixels, as people see the images: turned by EXIF orientation.

    Raises:
        MissingError: some cannot be read; it counts them, names the first, and carries the paths of
            all.
    """
    paths, total = content.paths, len(content.names)
    every = max(total // LINES_IN_A_LOG, FEWEST_BETWEEN_LINES)
    with process_map(open_image, paths, workers, CHUNK) as opened:
        found = list(track(opened, total, "image", "opening", every))
    unreadable = [number for number, size in enumerate(found) if isinstance(size, str)]
    if unreadable:
        first = unreadable[0]
        raise MissingError(
            f"{len(unreadable)} of the {total} images in {content.folder} cannot be read, the "
            f"first {content.names[first]} ({found[first]}); replace or remove them",
            [str(paths[number]) for number in unreadable],
        )
    return np.array(found)


def open_image(path: Path) -> tuple[int, int] | str:
    """Width and height of an image, or why training could not read it."""
    try:
        image = decode(path)
        to_rgb(image)
    except (OSError, MemoryError) as error:
        return reason(error)
    height, width = turned_size((image.height, image.width), orientation(image))
    return width, height
