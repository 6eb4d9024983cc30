"""Image-level labels that a user has, in whichever format: found for the images that are wanted."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.class_names import label_vector, plain_name
from datasets.label_formats import (
    LINES_SUFFIXES,
    TABLE_SUFFIXES,
    Source,
    json_source,
    normal,
    read_json,
    read_json_lines,
    read_table,
)
from datasets.label_sources import coco_source, is_coco, read_folder
from utils.errors import MissingError, UserError, reason

SUFFIXES = (*TABLE_SUFFIXES, ".json", *LINES_SUFFIXES)


@dataclass(frozen=True)
class FoundLabels:
    """What a source of labels says of images.

    Attributes:
        labels: per image, in the order they were asked for, C−1 uint8 zeros and ones; None where
            the source lacks the image.
        unused: names in the source that belong to none of the images.
    """

    labels: list[np.ndarray | None]
    unused: list[str]


def read_labels(path: Path, images: Sequence[Path], classes: Sequence[str]) -> list[np.ndarray]:
    """The labels of images, all of which the source must name.

    Args, formats and errors: as for `find_labels`.

    Returns:
        Per image, in the given order, C−1 uint8 zeros and ones.

    Raises:
        MissingError: the source lacks an image; it carries the paths of all of these.
    """
    found = find_labels(path, images, classes)
    require_labels(path, dict(zip(images, found.labels, strict=True)), found.unused)
    return found.labels


def require_labels(
    path: Path, labels: Mapping[Path, Sequence | np.ndarray | None], unused: Sequence[str]
) -> None:
    """Raise `MissingError`, which carries their paths, if the source at `path` lacks images."""
    lacking = [str(image) for image, found in labels.items() if found is None]
    if lacking:
        instead = f" (it names {unused[-1]!r})" if unused else ""
        raise MissingError(
            f"{path} lacks {len(lacking)} of the {len(labels)} images, the first "
            f"{Path(lacking[0]).name}{instead}; add them, with no classes where there are no "
            "objects",
            lacking,
        )


def find_labels(path: Path, images: Sequence[Path], classes: Sequence[str]) -> FoundLabels:
    """The labels of those images that a file or folder names; it may name others.

    Images go by path, file name or id; capitals do not count, nor folders, but where they tell
    images apart. An image without objects is background only.

    Args:
        path: one of the following, told by suffix and content; text in UTF-8, or in UTF-16 with a
            byte order mark:
            - a table (.csv, .tsv, .txt) whose columns commas, semicolons or tabs separate: rows
              `a.jpg,cat,dog`; or with the header `image,labels`, see `split_labels`; or with the
              header `image,cat,dog` and cells of 0 and 1;
            - JSON, `{"a.jpg": ["cat", "dog"]}`, or lines of it (.jsonl, .ndjson),
              `{"file_name": "a.jpg", "labels": ["cat", "dog"]}`;
            - a folder of images with a subfolder a class; `background` holds those without objects;
            - a folder of VOC's annotations, *.xml, or that above it; COCO's instances_*.json.
        images: their paths; the files need not exist.
        classes: class names in index order, background first; as for `label_vector`.

    Raises:
        UserError: the source cannot be read or parsed, names nothing, an image twice or for a
            wanted image an unknown class, or several of its names may mean one image, or the
            reverse.
    """
    labels, unused = _find(path, images, classes)
    return FoundLabels([labels[image] for image in images], unused)


@dataclass(frozen=True)
class FoundObjects:
    """What a source of labels says of images before the classes are known.

    Attributes:
        objects: per image, in the order they were asked for, the names of its objects as they are
            written there; None where the source lacks the image.
        names: all of these names once, in the source's order.
        unused: names in the source that belong to none of the images.
    """

    objects: list[list[str] | None]
    names: list[str]
    unused: list[str]


def find_objects(path: Path, images: Sequence[Path]) -> FoundObjects:
    """The names of the objects in images, any names; else as `find_labels`.

    Raises:
        UserError: as `find_labels`, but that no class is unknown.
    """
    source = _open(path, images, None)
    matches = _match(path, source, images)
    found: dict[int, list[str]] = {}
    for image, numbers in matches.items():
        for number in numbers:
            found[number] = list(source.objects(number))
            if set(map(plain_name, found[number])) != set(map(plain_name, found[numbers[0]])):
                raise _ambiguous(path, image, source, numbers[0], number)
    return FoundObjects(
        [found[matches[image][0]] if matches[image] else None for image in images],
        list(dict.fromkeys(name for number in sorted(found) for name in found[number])),
        [name for number, name in enumerate(source.names) if number not in found],
    )


def _find(
    path: Path, images: Sequence[Path], classes: Sequence[str]
) -> tuple[dict[Path, np.ndarray | None], list[str]]:
    """The labels by image, and the names that are unused."""
    source = _open(path, images, classes)
    matches = _match(path, source, images)
    labels = {
        image: _labels_of(path, image, numbers, source, classes)
        for image, numbers in matches.items()
    }
    used = {number for numbers in matches.values() for number in numbers}
    return labels, [name for number, name in enumerate(source.names) if number not in used]


def _open(path: Path, images: Sequence[Path], classes: Sequence[str] | None) -> Source:
    suffix = path.suffix.lower()
    if not path.is_dir() and path.exists() and suffix not in SUFFIXES:
        raise UserError(
            f"labels {path}: expected a folder, or a file that ends in {', '.join(SUFFIXES)}"
        )
    try:
        if path.is_dir():
            source = read_folder(path, classes)
        elif suffix == ".json":
            content = read_json(path)
            source = coco_source(path, content) if is_coco(content) else json_source(path, content)
        elif suffix in LINES_SUFFIXES:
            source = read_json_lines(path)
        else:
            source = read_table(path, images, classes)
    except csv.Error as error:
        raise UserError(
            f"cannot read the labels {path} ({error}); close its quotes and double those in names"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"cannot read the labels {path} ({reason(error)}); check --labels, or labels in "
            "dataset.yaml"
        ) from error
    if not source.names:
        example = classes[1] if classes else "cat"
        raise UserError(f"the labels {path} are empty; write a row an image, as a.jpg,{example}")
    return source


def _labels_of(
    path: Path, image: Path, numbers: Sequence[int], source: Source, classes: Sequence[str]
) -> np.ndarray | None:
    """The labels of an image that has some rows, or none, in the source."""
    found = []
    for number in numbers:
        objects = source.objects(number)
        try:
            found.append(label_vector(objects, classes).astype(np.uint8))
        except UserError as error:
            raise UserError(f"{path}, {source.place(number)}: {error}") from error
    for number, labels in zip(numbers, found, strict=True):
        if not np.array_equal(labels, found[0]):
            raise _ambiguous(path, image, source, numbers[0], number)
    return found[0] if found else None


def _ambiguous(path: Path, image: Path, source: Source, first: int, second: int) -> UserError:
    return UserError(
        f"{path}: {source.names[first]} and {source.names[second]} may both mean {image.name}; "
        "write that exact name for the right one"
    )


def _match(path: Path, source: Source, images: Sequence[Path]) -> dict[Path, list[int]]:
    """For each image the numbers of its names in the source; several only if matched loosely."""
    exact: dict[str, int] = {}
    for number, name in enumerate(source.names):
        if exact.setdefault(normal(name), number) != number:
            raise UserError(f"{path} names {name} twice; remove one of them")
    matches = {}
    for image in dict.fromkeys(images):
        number = next((exact[name] for name in _names_of(image) if name in exact), None)
        matches[image] = [] if number is None else [number]
    _match_loosely(source, matches)

    owners: dict[int, Path] = {}
    for image, numbers in matches.items():
        for number in numbers:
            other = owners.setdefault(number, image)
            if other is not image:
                raise UserError(
                    f"{path}: {source.names[number]} may mean {other} or {image}; write the folder "
                    "and suffix of each"
                )
    return matches


def _match_loosely(source: Source, matches: dict[Path, list[int]]) -> None:
    """Match the images left by what their paths and the names, in small letters, both end in."""
    left = [image for image, numbers in matches.items() if not numbers]
    if not left:
        return
    # an exact name of one image is not a loose one of another
    taken = {number for numbers in matches.values() for number in numbers}
    wanted = {
        name.casefold() for image in left for name in (normal(image.name), normal(image.stem))
    }
    loose = defaultdict(list)
    for number, name in enumerate(source.names):
        parts = [part for part in re.split(r"[/\\]", normal(name).casefold()) if part]
        if parts and number not in taken and parts[-1] in wanted:
            for start in range(len(parts)):
                loose["/".join(parts[start:])].append(number)
    sharing = Counter(
        name.casefold() for image in matches for name in {normal(image.name), normal(image.stem)}
    )
    for image in left:
        for name in (name.casefold() for name in _names_of(image)):
            # without a folder it could be that of another image
            if name in loose and sharing[name] < 2:
                matches[image] = loose[name]
                break


def _names_of(image: Path) -> Iterator[str]:
    """What an image may be called: its path, less and less of it, then each without the suffix."""
    path = normal(image.as_posix())
    for name in (path, path.removesuffix(normal(image.suffix))):
        yield name
        for slash in re.finditer("/", name):
            yield name[slash.end() :]
