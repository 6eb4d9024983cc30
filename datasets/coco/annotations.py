"""COCO's instances_*.json: the images of a split with their objects, read once and kept small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.coco import COCO
from datasets.coco.errors import broken
from datasets.coco.layout import Split
from utils.errors import reason

EDGE = 5
"""Pixels by which polygons leave images and nothing is said; outlines are not exact at the edge."""


class Rle(NamedTuple):
    """Runs of pixels outside and inside of an object, in turn, down the columns of a mask.

    Attributes:
        size: height and width.
        counts: the runs' lengths, int64.
    """

    size: tuple[int, int]
    counts: np.ndarray


class Instance(NamedTuple):
    """An object, or with `crowd` a region of many.

    Attributes:
        id: the annotation's.
        label: the class's index, 1 to 80.
        crowd: whether COCO marks it as `iscrowd`.
        shape: its polygons, float64 arrays x, y, x, y, …, or its runs; None if it was not kept.
        extent: left, top, right and bottom of the polygons, or 0, 0, width and height of the runs.
    """

    id: int
    label: int
    crowd: bool
    shape: list[np.ndarray] | Rle | None
    extent: tuple[float, float, float, float]


@dataclass
class CocoImage:
    """An image of a split; its objects are in the order of the annotations."""

    id: int
    name: str
    height: int
    width: int
    instances: list[Instance] = field(default_factory=list)

    @property
    def labels(self) -> list[int]:
        """The classes in it, crowds included, sorted."""
        return sorted({instance.label for instance in self.instances})


def read_annotations(root: Path, split: Split, shapes: bool) -> list[CocoImage]:
    """The images of a split, sorted by name, each with its objects.

    Args:
        root: the data root.
        split: the part of COCO.
        shapes: whether polygons and runs are kept; they take most of the memory.

    Raises:
        DataError: the file is missing, cut short or not like COCO's, its categories are not the
            80, an object belongs to no image, or an image's name is no file name.
    """

    def error(problem: str) -> Exception:
        return broken(root, split.annotations, problem)

    try:
        text = (root / split.annotations).read_text(encoding="utf-8")
        # objects become small while the file is parsed, which as plain Python takes gigabytes
        content = json.loads(text, object_hook=lambda item: _compact(item, shapes))
    except FileNotFoundError as failure:
        raise error("missing") from failure
    except PermissionError:
        raise
    except _ShapeError as failure:
        raise error(str(failure)) from failure
    except (OSError, ValueError, RecursionError) as failure:
        problem = f"it is cut short or no JSON ({reason(failure)})"
        raise error(problem) from failure
    try:
        labels = _labels_of_ids(content["categories"])
        images = {image.id: image for image in map(_image, content["images"])}
        if len(images) < len(content["images"]):
            raise ValueError("two images have the same id")
        _deal_out(content["annotations"], images, labels)
        names = {image.name for image in images.values()}
        if len(names) < len(images) or not names:
            raise ValueError("two images have the same name" if names else "it has no images")
    except (KeyError, TypeError, ValueError, AttributeError) as failure:
        what = f"{failure} is missing" if isinstance(failure, KeyError) else str(failure)
        raise error(f"it is not like COCO's ({what})") from failure
    return sorted(images.values(), key=lambda image: image.name)


class _ShapeError(Exception):
    """An annotation, which the text names, is no object of an image."""


class _Annotation(NamedTuple):
    image_id: int
    category_id: int
    instance: Instance


def _compact(item: dict[str, Any], shapes: bool) -> Any:
    """An annotation in few bytes; other objects of the file as they are."""
    if "segmentation" not in item:
        return item
    number = item.get("id")
    try:
        shape, extent = _shape(item["segmentation"])
        crowd = bool(item.get("iscrowd", 0))
        instance = Instance(number, 0, crowd, shape if shapes else None, extent)
        return _Annotation(item["image_id"], item["category_id"], instance)
    except KeyError as error:
        raise _ShapeError(f"annotation {number} has no {error}") from error
    except (TypeError, ValueError) as error:
        raise _ShapeError(f"annotation {number} has no polygons and no runs, {error}") from error


def _shape(found: Any) -> tuple[list[np.ndarray] | Rle, tuple[float, float, float, float]]:
    if isinstance(found, dict):
        height, width = map(int, found["size"])
        counts = found["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        return Rle((height, width), np.array(runs, dtype=np.int64)), (0, 0, width, height)
    polygons = [np.array(polygon, dtype=np.float64) for polygon in found]
    # the first is what pycocotools tells polygons by; three corners are a triangle
    if not polygons or polygons[0].size < 6 or any(p.ndim != 1 or p.size % 2 for p in polygons):
        raise ValueError("a polygon has fewer than three corners")
    corners = np.concatenate(polygons).reshape(-1, 2)
    return polygons, (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def _unpacked(text: str) -> list[int]:
    """The runs in COCO's compressed text: 5 bits a character, from the fourth on differences."""
    counts: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64:
            raise ValueError(f"{text[:20]!r} are no runs")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _labels_of_ids(categories: Iterable[dict[str, Any]]) -> dict[int, int]:
    """Class indices by category ids, whose order they have."""
    ordered = sorted(categories, key=lambda category: category["id"])
    names = tuple(category["name"] for category in ordered)
    if names != COCO.classes[1:]:
        raise ValueError(f"its {len(names)} categories are not COCO's {COCO.num_classes - 1}")
    return {category["id"]: label for label, category in enumerate(ordered, start=1)}


def _image(item: dict[str, Any]) -> CocoImage:
    name, height, width = item["file_name"], item["height"], item["width"]
    # names become parts of paths and cells of lists
    if not name.isprintable() or "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no file name")
    if not (type(height) is type(width) is int and min(height, width) > 0):
        raise ValueError(f"{name} has no height and width")
    return CocoImage(item["id"], name, height, width)


def _deal_out(
    annotations: Iterable[_Annotation], images: dict[int, CocoImage], labels: dict[int, int]
) -> None:
    """Give each image its objects."""
    for image_id, category_id, instance in annotations:
        if image_id not in images:
            raise ValueError(f"annotation {instance.id} is of image {image_id}, which is not there")
        if category_id not in labels:
            raise ValueError(f"annotation {instance.id} is of no category, {category_id}")
        images[image_id].instances.append(instance._replace(label=labels[category_id]))


def find_outside(image: CocoImage) -> str:
    """What of an image's objects is not in it, in words; "" if all are.

    That is one all of which is beyond the edge, or that goes on for another width or height there.
    What leaves an image by less is cut off, see `leaving`.
    """
    width, height = image.width, image.height
    for instance in image.instances:
        left, top, right, bottom = instance.extent
        touches = max(left - width, top - height, -right, -bottom) <= EDGE
        # written so that nan is outside, too
        near = left >= -width and right <= 2 * width and top >= -height and bottom <= 2 * height
        if not (touches and near):
            return (
                f"annotation {instance.id} lies outside of its image {image.name} "
                f"({width}×{height} pixels)"
            )
    return ""


def leaving(image: CocoImage) -> list[Instance]:
    """The objects that leave an image by more than `EDGE`, as some of published ones may."""

    def excess(instance: Instance) -> float:
        left, top, right, bottom = instance.extent
        return max(-left, -top, right - image.width, bottom - image.height)

    return [instance for instance in image.instances if excess(instance) > EDGE]


def lacking_files(root: Path, split: Split, images: Sequence[CocoImage]) -> list[str]:
    """The names of the images that are not in the split's folder."""
    try:
        present = {path.name for path in (root / split.images).iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        present = set()
    return [image.name for image in images if image.name not in present]
