"""The files of a described collection, and what they say of it as it was before."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.class_names import plain_name
from datasets.dataset_file import BACKGROUND, DATASET_FILE, dataset_yaml, read_dataset
from datasets.image_folder.collection import Collection
from datasets.image_folder.split import TRAIN, VAL
from datasets.info import DatasetInfo
from datasets.lists import IMAGE, csv_text
from utils.errors import UserError, first_few, os_errors_end_in
from utils.files import only_process, remove_leftovers, require_writable_file, write_text

LABELS = "labels.csv"
LISTS = {TRAIN: "train.csv", VAL: "val.csv"}
IMAGES = "images.csv"
FILES = (LABELS, *LISTS.values(), IMAGES, DATASET_FILE)


@dataclass(frozen=True)
class Described:
    """A collection as the files of an earlier run have it.

    Attributes:
        objects: by image, the plain names of its objects.
        parts: by image, `TRAIN` or `VAL`.
    """

    objects: Mapping[str, frozenset[str]]
    parts: Mapping[str, int]


def check_output(out: Path, folder: Path) -> Path | None:
    """Refuse an output folder that may not be written.

    Returns:
        The labels, resolved, that an earlier run on the same images wrote there, if it did.

    Raises:
        UserError: `out` is in the images' folder, cannot be written, or describes other images.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"--out {out} is in {folder}, which is never touched; choose another --out (OUTPUT)"
        )
    file = out / DATASET_FILE
    require_writable_file(file, "--out")
    if not file.exists():
        return None
    try:
        described = read_dataset(file).path
    except UserError as error:
        raise UserError(f"--out: {error}; choose another --out (OUTPUT)") from error
    if described.resolve() != folder.resolve():
        raise UserError(f"{file} is about {described}; choose another --out (OUTPUT)")
    return (out / LABELS).resolve()


def require_kept(source: Path, out: Path) -> None:
    """Raise `UserError` if the labels are a file that is to be written."""
    if any(source.resolve() == (out / name).resolve() for name in FILES):
        raise UserError(f"{source} would be overwritten; choose another --out")


def read_described(out: Path) -> Described | None:
    """What an earlier run wrote to `out`; None if nothing is there, or nothing of that kind."""
    try:
        objects = {
            name: frozenset(map(plain_name, found)) for name, *found in _read_rows(out / LABELS)
        }
        parts = {
            name: part for part, file in LISTS.items() for name, *_ in _read_rows(out / file)[1:]
        }
    except (OSError, ValueError, csv.Error):
        return None
    return Described(objects, parts)


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [[cells[0].removeprefix("./"), *cells[1:]] for cells in csv.reader(file) if cells]


def write_collection(out: Path, collection: Collection) -> Path:
    """Write the labels, the lists, and at last dataset.yaml, which is returned.

    The same collection gives the same bytes. Raises `UserError` where there are such files of
    another origin, or they cannot be written.
    """
    texts = _texts(out, collection)
    with os_errors_end_in("choose another --out, or make room"), only_process(out, "description"):
        if not (out / DATASET_FILE).exists():
            _require_own(out, texts)
        remove_leftovers(out, "|".join(map(re.escape, FILES)))
        for name in FILES:
            write_text(out / name, texts[name])
    return out / DATASET_FILE


def _texts(out: Path, collection: Collection) -> dict[str, str]:
    """What is to be written, by the name of the file."""
    rows = (
        [_cell(name), *collection.objects_of(number)]
        for number, name in enumerate(collection.names)
    )
    texts = {LABELS: csv_text(rows), DATASET_FILE: dataset_yaml(_info(out, collection))}
    for part, file in LISTS.items():
        names = (collection.names[number] for number in np.flatnonzero(collection.parts == part))
        texts[file] = _list(names)
    texts[IMAGES] = _list(collection.names)
    return texts


def _list(names: Iterable[str]) -> str:
    return csv_text([[IMAGE], *([_cell(name)] for name in names)])


def _require_own(out: Path, texts: Mapping[str, str]) -> None:
    """Refuse to replace files that no run has left, not even one that was killed."""
    for name, text in texts.items():
        file = out / name
        if file.exists() and file.read_bytes() != text.encode():
            raise UserError(
                f"{file} is there already, without a {DATASET_FILE} that it belongs to; choose "
                "another --out, or remove that file"
            )


def _info(out: Path, collection: Collection) -> DatasetInfo:
    # a name of folders to come begins with neither dot nor hyphen
    name = re.sub(r"^[\s.\-]+", "", collection.folder.name.replace("\\", "_"))
    out = out.absolute()
    return DatasetInfo(
        name=name or "images",
        classes=(BACKGROUND, *collection.objects),
        train_list=str(out / LISTS[TRAIN]),
        val_list=str(out / LISTS[VAL]),
        labels=str(out / LABELS),
        path=collection.folder,
    )


def _cell(name: str) -> str:
    """A path as a cell, whose readers strip blanks."""
    return name if name == name.strip() else f"./{name}"


def changes(before: Described, collection: Collection) -> list[str]:
    """What came, went and changed since an earlier run, a line each."""
    now = {
        name: frozenset(map(plain_name, collection.objects_of(number)))
        for number, name in enumerate(collection.names)
    }
    parts = dict(zip(collection.names, collection.parts.tolist(), strict=True))
    kinds = {
        "came": [name for name in now if name not in before.objects],
        "went": [name for name in before.objects if name not in now],
        "changed labels": [
            name for name in now if before.objects.get(name, now[name]) != now[name]
        ],
        "went from train to val, or the reverse": [
            name for name, part in parts.items() if before.parts.get(name, part) != part
        ],
    }
    found = [
        f"since the last run {len(names)} image{'s' * (len(names) > 1)} {what}: {first_few(names)}"
        for what, names in kinds.items()
        if names
    ]
    return found or ["since the last run no image and no label changed"]
