"""mini-VOC as people have their images: a folder of them, and a table of what they show."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.files import write_mask
from datasets.mini_voc.output import require_settings, write_jpeg, write_once
from datasets.mini_voc.scene import draw_scene
from datasets.mini_voc.splits import IMAGE_SIZES
from utils.files import atomic_path, write_text
from utils.palette import voc_palette

# Raised whenever the same seed would give other files than before.
FORMAT_VERSION = 1
MARKER = Path(".mini_voc_folder.json")
IMAGES, MASKS, LABELS = Path("images"), Path("masks"), Path("labels.csv")

# A class's name → the one whose objects it is drawn as; the k-th has mask value k.
CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "cargo bike": "bicycle",
        "coach": "bus",
        "flask": "bottle",
        "fox": "cat",
        "taxi": "car",
        "wolf": "dog",
    }
)

# Numbers of objects, dealt to images in turn.
NUMBERS_OF_OBJECTS = (0,) + 10 * (1,) + 9 * (2,)
# Names, dealt to images in turn; every third one has spaces.
STEMS = (
    "IMG_{:04d}",
    "DSC{:05d}",
    "Garden {:d}",
    "grün-{:d}",
    "photo{:04d}",
    "Über den Hügel {:d}",
    "IMG_{:04d}_edited",
    "scan-{:d}",
    "by the lake ({:d})",
)
PNG_EVERY = 13  # images; the others are JPEGs


@dataclass(frozen=True)
class FolderSettings:
    """What decides the files' content.

    Attributes:
        seed: a whole number from 0.
        images: their number, 20 to 5000.
    """

    seed: int = 0
    images: int = 360


@dataclass(frozen=True)
class FolderImage:
    """An image to draw.

    Attributes:
        name: its file name.
        size: width and height in pixels.
        classes: the classes of its objects, from back to front; none to two.
    """

    name: str
    size: tuple[int, int]
    classes: tuple[str, ...]

    @property
    def path(self) -> Path:
        return IMAGES / self.name

    @property
    def mask(self) -> Path:
        return MASKS / f"{self.path.stem}.png"


def generate_folder(out: Path, settings: FolderSettings) -> None:
    """Write images, their masks and labels.csv under `out`; see `write_once`.

    labels.csv has no header; a row is an image's file name and its objects' names, if it has any.
    Masks are palette PNGs of 0 (background) to 6 (see `CLASSES`), named after their images.

    Raises:
        UserError: as `write_once`, and for settings out of range.
    """
    require_settings(settings.seed, images=settings.images)
    planned = plan_folder(settings)

    def draw() -> None:
        for number, image in enumerate(tqdm(planned, desc="drawing mini-VOC", disable=None)):
            # a generator of its own for each image, so that no image depends on those before it
            _write_image(out, image, np.random.default_rng([settings.seed, number]))
        write_text(out / LABELS, _table(planned))
        print(
            f"wrote {len(planned)} images to {out / IMAGES}, the objects of each to "
            f"{out / LABELS}, and their masks, for evaluation alone, to {out / MASKS}; "
            f"classes 1 to {len(CLASSES)}: {', '.join(CLASSES)}"
        )

    files = [LABELS, *(path for image in planned for path in (image.path, image.mask))]
    made = {"format": FORMAT_VERSION, **asdict(settings)}
    write_once(out, MARKER, made, files, [str(IMAGES), str(MASKS), str(LABELS)], draw)


def plan_folder(settings: FolderSettings) -> list[FolderImage]:
    """Plan the images, sorted by name.

    Classes are dealt from shuffled packs of all of them, so that each is about equally frequent
    and none goes along with another.
    """
    rng = np.random.default_rng(settings.seed)
    # each is in one name only: ids differ, in whatever case
    serials = rng.permutation(9000)[: settings.images] + 1000
    numbers = rng.permutation(np.resize(NUMBERS_OF_OBJECTS, settings.images))
    planned = []
    pack: list[str] = []
    for index, (serial, number) in enumerate(zip(serials, numbers, strict=True)):
        while len(pack) < number:
            pack.extend(str(name) for name in rng.permutation(list(CLASSES)))
        classes = tuple(pack.pop(0) for _ in range(number))
        suffix = ".jpg" if (index + 1) % PNG_EVERY else ".png"
        name = STEMS[index % len(STEMS)].format(serial) + suffix
        size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
        planned.append(FolderImage(name, size, classes))
    return sorted(planned, key=lambda image: image.name)


def _write_image(out: Path, image: FolderImage, rng: np.random.Generator) -> None:
    width, height = image.size
    scene = draw_scene([CLASSES[name] for name in image.classes], height, width, rng)
    if image.path.suffix == ".jpg":
        write_jpeg(out / image.path, scene.image)
    else:
        with atomic_path(out / image.path) as temporary:
            Image.fromarray(scene.image).save(temporary, format="PNG")
    indices = [0, *(1 + list(CLASSES).index(name) for name in image.classes)]
    mask = np.array(indices, dtype=np.uint8)[scene.instances]
    write_mask(out / image.mask, mask, voc_palette())


def _table(planned: Sequence[FolderImage]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for image in planned:
        writer.writerow([image.name, *sorted(set(image.classes))])
    return text.getvalue()
