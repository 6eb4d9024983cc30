"""From a folder of images and their labels to a data set."""

from __future__ import annotations

import sys
from pathlib import Path

from datasets.image_folder.collection import Collection, label_images
from datasets.image_folder.content import FolderContent, find_labels_source, list_folder
from datasets.image_folder.opening import open_images
from datasets.image_folder.output import (
    changes,
    check_output,
    read_described,
    require_kept,
    write_collection,
)
from datasets.image_folder.split import TRAIN, VAL, split_images
from datasets.image_folder.summary import summary, warnings
from datasets.image_labels import find_objects, require_labels
from utils.copies import find_copies
from utils.errors import UserError, os_errors_end_in


def describe(
    folder: Path,
    out: Path,
    labels: Path | None = None,
    val_share: float = 0.1,
    workers: int = 1,
) -> Path:
    """Write a folder of images as a data set, and print what it holds.

    Args:
        folder: the images, subfolders too; nothing in it is touched.
        out: where dataset.yaml, labels.csv, images.csv, train.csv and val.csv are written; those of
            an earlier run are replaced, and compared with what is found now.
        labels: in any format that `datasets.image_labels` reads; None to look for them.
        val_share: the share of images to validate on, above 0 and below 1.
        workers: processes that open images.

    Returns:
        The path of dataset.yaml.

    Raises:
        UserError: something cannot be used; nothing is written.
        MissingError: images cannot be read, or have no labels; it carries their paths.
    """
    content = list_folder(folder)
    written = check_output(out, content.folder)
    source = labels or find_labels_source(content, written)
    require_kept(source, out)
    before = read_described(out)

    found = find_objects(source, content.paths)
    require_labels(source, dict(zip(content.paths, found.objects, strict=True)), found.unused)
    objects, matrix, notes = label_images(source, content, found)
    sizes = open_images(content, workers)
    with os_errors_end_in("make the images readable"):
        copies = find_copies(content.paths)
    if copies and len(copies[0]) == len(content.names):
        raise UserError(
            f"all images in {content.folder} are equal, so that there is nothing to validate on; "
            "add others"
        )
    known = before.parts if before else {}
    parts = split_images(content.names, matrix, val_share, copies, known)
    collection = Collection(content.folder, content.names, objects, matrix, sizes, copies, parts)

    file = write_collection(out, collection)
    _print_counts(content, source, found.unused)
    print(summary(collection))
    for line in changes(before, collection) if before else ():
        print(line)
    trained, validated = ((parts == part).sum() for part in (TRAIN, VAL))
    print(f"wrote {file}, with {trained} images to train on and {validated} to validate on")
    for line in (*notes, *(f"warning: {text}" for text in warnings(collection))):
        print(line, file=sys.stderr)
    return file


def _print_counts(content: FolderContent, source: Path, unused: list[str]) -> None:
    others = [
        name for name in content.others if (content.folder / name).resolve() != source.resolve()
    ]
    left_out = f", other files left out: {len(others)}" if others else ""
    print(f"{len(content.names)} images in {content.folder}{left_out}; labels from {source}")
    if unused:
        print(
            f"note: {source} names {len(unused)} images that are not there, the first {unused[0]}",
            file=sys.stderr,
        )
