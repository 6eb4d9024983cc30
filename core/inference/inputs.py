"""Which images a run of inference is about: those of a list or a folder, or one alone."""

from __future__ import annotations

from pathlib import Path

from datasets.files import ListEntry, read_list
from datasets.images import image_suffixes
from datasets.records import PASCAL_VOC, DatasetRecord
from utils.errors import UserError, os_errors_end_in


def find_images(
    path: Path, root: str | Path, record: DatasetRecord = PASCAL_VOC
) -> tuple[list[ListEntry], str]:
    """The images that `path` stands for.

    Args:
        path: a folder, whose images are those files in it that have an image's suffix and are not
            hidden, by name; an image, known by its suffix; or else a file list.
        root: where the paths of a list start; folders and images stand where they stand.
        record: says which images of a list are turned by their EXIF orientation; others all are.

    Returns:
        The images, and a line on what else is in the folder, empty if nothing is.

    Raises:
        UserError: the folder cannot be read, has no images, or a link to one that is not there;
            there is no such image; see `read_list`.
    """
    if path.is_dir():
        return _images_in(path)
    if path.suffix.lower() in image_suffixes():
        if not path.exists():
            raise UserError(f"there is no image {path}")
        return [ListEntry(path, None)], ""
    return read_list(path, root, record), ""


def _images_in(folder: Path) -> tuple[list[ListEntry], str]:
    suffixes = image_suffixes()
    images, others = [], []
    with os_errors_end_in("make the folder readable"):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            is_image = path.suffix.lower() in suffixes
            if is_image and not path.exists():
                raise UserError(f"{path} is a link to a file that is not there; mend or remove it")
            if is_image and path.is_file():
                images.append(path)
            else:
                others.append(f"{path.name}/" if path.is_dir() else path.name)
    if not images:
        raise UserError(
            f"there are no images in {folder} ({len(others)} other files and folders, which are "
            "not searched); images are known by their suffixes, as .jpg or .png"
        )
    entries = [ListEntry(path, None) for path in images]
    if not others:
        return entries, ""
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return entries, (
        f"left out, as folders or no images by their suffix: {', '.join(others[:3])}{more} "
        f"({folder})"
    )
