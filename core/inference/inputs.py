"""Which images a run of inference is about: those of a list or a folder, or one alone."""

from __future__ import annotations

from pathlib import Path

from datasets.files import ListEntry, read_list
from datasets.images import image_suffixes
from utils.errors import UserError, os_errors_end_in


def find_images(path: Path, root: str | Path) -> tuple[list[ListEntry], str]:
    """The images that `path` stands for.

    Args:
        path: a folder, whose images are those files in it that have an image's suffix and are not
            hidden, by name; an image, known by its suffix; or else a file list.
        root: where the paths of a list start; folders and images stand where they stand.

    Returns:
        The images, and a line on the folder's other files, empty if there are none.

    Raises:
        UserError: the folder cannot be read or has no images; there is no such image; see
            `read_list`.
    """
    if path.is_dir():
        return _images_in(path)
    if path.suffix.lower() in image_suffixes():
        if not path.exists():
            raise UserError(f"there is no image {path}")
        return [ListEntry(path, None)], ""
    return read_list(path, root), ""


def _images_in(folder: Path) -> tuple[list[ListEntry], str]:
    suffixes = image_suffixes()
    with os_errors_end_in("make the folder readable"):
        files = sorted(
            path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
        )
    images = [path for path in files if path.suffix.lower() in suffixes]
    if not images:
        raise UserError(
            f"there are no images in {folder} ({len(files)} other files; folders in it are not "
            "searched); images are known by their suffixes, as .jpg or .png"
        )
    others = [path.name for path in files if path.suffix.lower() not in suffixes]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    skipped = f"{len(others)} files of {folder} are no images, left out: {', '.join(others[:3])}"
    return [ListEntry(path, None) for path in images], f"{skipped}{more}" if others else ""
