"""Image-level labels in files made for other purposes: class folders, VOC's XML, COCO's JSON."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from datasets.class_names import class_index, nearest_class
from datasets.images import image_suffixes
from datasets.label_formats import Source, normal
from utils.copies import find_copies
from utils.errors import UserError


def read_folder(path: Path, classes: Sequence[str] | None) -> Source:
    """VOC's XML files, where the folder or its subfolder Annotations has some; else class folders.

    With None for the classes, which are not known yet, each class folder is one.

    Raises:
        UserError: the folder has neither, or something that cannot be used.
        OSError: it cannot be read.
    """
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".xml")
    return _voc_files(files) if files else _class_folders(path, classes)


def _voc_files(files: list[Path]) -> Source:
    return Source(
        [file.stem for file in files],
        lambda number: _objects_of_xml(files[number]),
        lambda number: files[number].name,
    )


def _objects_of_xml(file: Path) -> list[str]:
    """The objects that VOC's annotation of an image names, those marked as difficult as well."""
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{file} is no XML ({error}); restore or remove it") from error
    objects = [item.findtext("name", "").strip() for item in root.findall("object")]
    if root.tag != "annotation" or not all(objects):
        raise UserError(
            f"{file} is none of VOC's annotations (<annotation> with <object><name>); convert or "
            "remove it"
        )
    return objects


def _class_folders(path: Path, classes: Sequence[str] | None) -> Source:
    """A folder a class, as torchvision's ImageFolder has; an image may be in several of them."""
    files: list[tuple[Path, list[str]]] = []
    folders = [item for item in path.iterdir() if item.is_dir() and item.name[0] != "."]
    for folder in sorted(folders):
        index = class_index(folder.name, classes) if classes else None
        is_background = index == 0 or folder.name.casefold() == "background"
        if classes and index is None and not is_background:
            raise UserError(
                f"the folder {folder} is no class; did you mean "
                f"{nearest_class(folder.name, classes)!r}? Rename or move it"
            )
        images = _images_below(folder)
        if not images:
            raise UserError(f"the class folder {folder} has no images; fill or remove it")
        files += [(image, [] if is_background else [folder.name]) for image in images]
    if not files:
        raise UserError(f"{path} has neither a folder a class nor VOC's *.xml; give it one of them")
    shared = _objects_of_copies(files)
    return Source(
        [image.relative_to(path).as_posix() for image, _ in files],
        lambda number: shared.get(number, files[number][1]),
        lambda number: files[number][0].relative_to(path).as_posix(),
    )


def _images_below(folder: Path) -> list[Path]:
    suffixes = image_suffixes()
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in suffixes
    )


def _objects_of_copies(files: Sequence[tuple[Path, list[str]]]) -> dict[int, list[str]]:
    """The objects of files that there are copies of: of one name, with the same bytes."""
    of_one_name: dict[str, list[int]] = defaultdict(list)
    for number, (file, _) in enumerate(files):
        of_one_name[normal(file.name)].append(number)
    found = {}
    for numbers in (group for group in of_one_name.values() if len(group) > 1):
        for copies in find_copies([files[number][0] for number in numbers]):
            members = [numbers[place] for place in copies]
            objects = [name for member in members for name in files[member][1]]
            found |= dict.fromkeys(members, objects)
    return found


def is_coco(content: dict[str, Any]) -> bool:
    """Whether a JSON object is COCO's, rather than names of images with lists of names."""
    images = content.get("images")
    return isinstance(images, list) and any(isinstance(image, dict) for image in images)


def coco_source(path: Path, content: dict[str, Any]) -> Source:
    """The categories of the annotations, crowds too, in COCO's instances_*.json.

    Raises:
        UserError: it is not complete, or two categories or images share an id.
    """
    try:
        names_of = _by_id(path, "categories", "name", content["categories"])
        images = _by_id(path, "images", "file_name", content["images"])
        found: dict[Any, dict[Any, None]] = {number: {} for number in images}
        for annotation in content["annotations"]:
            # one of an image that was taken out of the file concerns none of those left
            found.get(annotation["image_id"], {})[annotation["category_id"]] = None
    except (KeyError, TypeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not like COCO's instances_*.json ({what}); it has images, annotations and "
            "categories"
        ) from error
    numbers, files = list(images), list(images.values())

    def objects(number: int) -> list[str]:
        categories = found[numbers[number]]
        for category in categories:
            if category not in names_of:
                raise UserError(
                    f"{path}, {files[number]}: there is no category {category!r}; add it to "
                    "categories"
                )
        return [names_of[category] for category in categories]

    return Source(files, objects, files.__getitem__)


def _by_id(path: Path, kind: str, key: str, items: list[dict[str, Any]]) -> dict[Any, str]:
    """The names of COCO's categories or images by their ids, which may have gaps."""
    names: dict[Any, str] = {}
    for item in items:
        if not isinstance(item[key], str):
            raise TypeError(f"{key} {item[key]!r} is no text")
        if item["id"] in names:
            raise UserError(
                f"{path}: two of the {kind}, {names[item['id']]!r} and {item[key]!r}, have the id "
                f"{item['id']}; give one another"
            )
        names[item["id"]] = item[key]
    return names
