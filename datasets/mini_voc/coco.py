"""mini-COCO: mini-VOC's scenes, described as MS COCO 2014 describes its images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.coco import COCO
from datasets.coco.layout import MINI_COCO_MARKER, TOP, TRAIN, VAL, Split
from datasets.mini_voc.output import require_settings, write_jpeg, write_once
from datasets.mini_voc.scene import Scene, draw_scene
from datasets.mini_voc.splits import IMAGE_SIZES, NUMBER_OF_OBJECTS
from datasets.voc import PASCAL_VOC
from utils.files import write_text

# Raised whenever the same seed would give other files than before.
FORMAT_VERSION = 1

# COCO's ids count to 90; these belong to nothing.
UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
CATEGORY_IDS: Mapping[str, int] = MappingProxyType(
    dict(
        zip(
            COCO.classes[1:],
            (number for number in range(1, 91) if number not in UNUSED_IDS),
            strict=True,
        )
    )
)
# COCO's names of what mini-VOC draws, where they are not VOC's.
OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "potted-plant": "potted plant",
        "sofa": "couch",
        "tv/monitor": "tv",
    }
)
# By their place in a split, images without objects, and those whose first object is a crowd.
EMPTY_EVERY, CROWD_EVERY = 20, 15
# The share of areas by which painting surely tells which of two objects is the smaller.
MUCH_LARGER = 1.2


@dataclass(frozen=True)
class MiniCocoSettings:
    """What decides the files' content.

    Attributes:
        seed: a whole number from 0.
        train: images in train2014, 20 to 5000.
        val: images in val2014, 20 to 5000.
    """

    seed: int = 0
    train: int = 480
    val: int = 100


@dataclass(frozen=True)
class _Planned:
    """An image to draw: width and height in pixels, and mini-VOC's names of its objects."""

    id: int
    split: Split
    size: tuple[int, int]
    classes: tuple[str, ...]
    has_crowd: bool

    @property
    def name(self) -> str:
        return f"COCO_{self.split.name}_{self.id:012d}.jpg"

    @property
    def path(self) -> Path:
        return self.split.images / self.name


def generate_coco(out: Path, settings: MiniCocoSettings) -> None:
    """Write mini-COCO under `out`, unless it is there already; see `write_once`.

    Raises:
        UserError: as `write_once`, and for sizes out of range.
    """
    require_settings(settings.seed, train=settings.train, val=settings.val)
    planned = _plan(settings)

    def draw() -> None:
        files: dict[Split, dict[str, Any]] = {}
        for number, image in enumerate(tqdm(planned, desc="drawing mini-COCO", disable=None)):
            # a generator of its own for each image, so that no image depends on those before it
            rng = np.random.default_rng([settings.seed, number])
            width, height = image.size
            scene = draw_scene(image.classes, height, width, rng)
            write_jpeg(out / image.path, scene.image)
            file = files.setdefault(image.split, _empty_file())
            file["images"].append(
                {"id": image.id, "file_name": image.name, "height": height, "width": width}
            )
            file["annotations"] += _annotations(image, scene)
        for split, content in files.items():
            write_text(out / split.annotations, json.dumps(content))
        print(f"wrote {len(planned)} images with their annotations under {out}")

    made = {"format": FORMAT_VERSION, **asdict(settings)}
    written = [TRAIN.annotations, VAL.annotations, *(image.path for image in planned)]
    write_once(out, MINI_COCO_MARKER, made, written, [str(TOP), TRAIN.list, VAL.list], draw)


def _plan(settings: MiniCocoSettings) -> list[_Planned]:
    """Classes are dealt from shuffled packs of all 20, so that each is about equally frequent."""
    rng = np.random.default_rng(settings.seed)
    splits = settings.train * [TRAIN] + settings.val * [VAL]
    ids = rng.choice(np.arange(1, 580_000), size=len(splits), replace=False)
    planned = []
    pack: list[str] = []
    for place, (split, number) in enumerate(zip(splits, ids.tolist(), strict=True)):
        count = 1 + int(rng.choice(len(NUMBER_OF_OBJECTS), p=NUMBER_OF_OBJECTS))
        if place % EMPTY_EVERY == EMPTY_EVERY - 1:
            count = 0
        while len(pack) < count:
            pack.extend(str(name) for name in rng.permutation(PASCAL_VOC.classes[1:]))
        classes = tuple(pack.pop(0) for _ in range(count))
        size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
        has_crowd = count > 0 and place % CROWD_EVERY == 0
        planned.append(_Planned(number, split, size, classes, has_crowd))
    return planned


def _empty_file() -> dict[str, Any]:
    categories = [{"id": number, "name": name} for name, number in CATEGORY_IDS.items()]
    return {"images": [], "annotations": [], "categories": categories}


def _annotations(image: _Planned, scene: Scene) -> Iterator[dict[str, Any]]:
    """COCO's words for the objects: polygons of the whole of them where painting hides what others
    lie over, as smaller ones come on top; else the runs of what is seen. Crowds are runs.
    """
    seen = [scene.instances == number for number in range(1, len(scene.classes) + 1)]
    for place, name in enumerate(image.classes):
        is_crowd = image.has_crowd and place == 0
        area, *in_front = scene.areas[place:]
        hidden_by_smaller = all(area > MUCH_LARGER * other for other in in_front)
        shape: Any = runs_of(seen[place])
        if hidden_by_smaller and not is_crowd:
            shape = [np.round(part, 2).ravel().tolist() for part in scene.outlines[place]]
        rows, columns = np.nonzero(seen[place])
        left, top = int(columns.min()), int(rows.min())
        yield {
            "id": 10 * image.id + place,
            "image_id": image.id,
            "category_id": CATEGORY_IDS[OTHER_NAMES.get(name, name)],
            "segmentation": shape,
            "area": float(seen[place].sum()),
            "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
            "iscrowd": int(is_crowd),
        }


def runs_of(inside: np.ndarray) -> dict[str, Any]:
    """An H×W bool mask as COCO's runs: lengths of outside and inside in turn, down the columns."""
    pixels = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff([0, *edges, pixels.size]).tolist()
    return {"size": list(inside.shape), "counts": [0, *counts] if pixels[0] else counts}
