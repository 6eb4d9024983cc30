"""The page of a folder of masks: index.html, to look through them without ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.evaluation.html import css_colour, render
from core.inference.manifest import PAGE
from core.inference.page_files import read_numbers
from core.inference.writing import KINDS, Outputs
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError
from utils.files import write_text

TEMPLATE = Path(__file__).parent / "html" / "masks.html.j2"
MAX_IMAGES = 5000
"""So many are on the page; more would make browsers slow."""
LINKS = {"masks": "mask", "masks with CRF": "mask with CRF", "pictures": "picture"}
"""Kinds of files that an image's card leads to, and what they are called there."""


@dataclass(frozen=True)
class Row:
    """An image of the page.

    Attributes:
        entry: of the list.
        size: height and width.
        given: the objects that it is known to have, as class indices; None where labels are
            predicted.
        scores: the network's score of the objects that it took the image to have, by class index.
        classes: (share of the image's pixels, confidence) of the mask's classes, by index; both
            are in [0, 1], see `measure`.
    """

    entry: ListEntry
    size: tuple[int, int]
    given: list[int] | None
    scores: dict[int, float]
    classes: dict[int, tuple[float, float]]

    @property
    def objects(self) -> list[int]:
        """The objects that the mask has."""
        return [index for index in self.classes if index > 0]

    @property
    def missing(self) -> list[int]:
        """The given objects that the mask lacks."""
        return [index for index in self.given or () if index not in self.classes]

    @property
    def extra(self) -> list[int]:
        """The objects of the mask that are not given, where labels are."""
        given = self.given
        return [] if given is None else [index for index in self.objects if index not in given]

    @property
    def confidence(self) -> float:
        """That of the least certain object; without objects, of the background, if there is any."""
        found = self.objects or list(self.classes)
        return min((self.classes[index][1] for index in found), default=0.0)


def write_page(
    outputs: Outputs, entries: Sequence[ListEntry], info: DatasetInfo, about: Mapping[str, str]
) -> Path:
    """Write FOLDER/index.html, which shows the masks by the thumbnails beside it, in one step.

    Args:
        outputs: those of the run, with `page`.
        entries: the list; all images have their results.
        info: names the classes and their colours.
        about: what the page says of the run, by name.

    Raises:
        UserError: it cannot be written, or an image's numbers are missing or damaged.
    """
    path = outputs.folder / PAGE
    text = build_page(outputs, read_rows(outputs, entries), info, about)
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"cannot write the page to {path} ({error.strerror}); mend that, and the same command "
            "with --skip-existing writes it"
        ) from error
    return path


def read_rows(outputs: Outputs, entries: Sequence[ListEntry]) -> list[Row]:
    """The rows of images that have their results, by the names of their files."""
    rows = []
    for entry in sorted(entries, key=lambda entry: (entry.image.name, entry.id)):
        numbers = read_numbers(outputs.path("numbers", entry.id))
        classes = {index: tuple(found) for index, found in numbers["classes"].items()}
        size, given, scores = tuple(numbers["size"]), numbers["given"], numbers["scores"]
        rows.append(Row(entry, size, given, scores, classes))
    return rows


def build_page(
    outputs: Outputs, rows: Sequence[Row], info: DatasetInfo, about: Mapping[str, str]
) -> str:
    """The page as HTML: rows in a JSON array, of which its script makes cards as they are needed.

    Of more than `MAX_IMAGES` rows it holds those that disagree with their labels, then the least
    certain; its table counts all of them.
    """
    masks = [kind for kind in ("masks", "masks with CRF") if kind in outputs.kinds]
    shown = most_doubtful(rows, MAX_IMAGES)
    return render(
        TEMPLATE,
        about=about,
        total=len(rows),
        shown=len(shown),
        with_labels=any(row.given is not None for row in rows),
        disagreeing=sum(bool(row.missing or row.extra) for row in rows),
        masks=masks,
        classes=_classes(rows, info),
        data={
            "classes": [
                {"name": name, "colour": css_colour(info, index)}
                for index, name in enumerate(info.classes)
            ],
            "links": [
                [title, *KINDS[kind]] for kind, title in LINKS.items() if kind in outputs.kinds
            ],
            "images": [_as_data(row, outputs.folder) for row in shown],
        },
    )


def most_doubtful(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, in their order: the disagreeing before all, then the least certain."""

    def doubt(number: int) -> tuple[bool, float]:
        row = rows[number]
        return not (row.missing or row.extra), row.confidence

    return [rows[number] for number in sorted(sorted(range(len(rows)), key=doubt)[:count])]


def _classes(rows: Sequence[Row], info: DatasetInfo) -> list[dict[str, Any]]:
    """Each class's images, its share of all pixels, its mean confidence, and its labels.

    The confidence is a mean over pixels, as in an image.
    """
    pixels = [row.size[0] * row.size[1] for row in rows]
    table = []
    for index, name in enumerate(info.classes):
        found = [
            (count * row.classes[index][0], row.classes[index][1])
            for row, count in zip(rows, pixels, strict=True)
            if index in row.classes
        ]
        area = sum(part for part, _ in found)
        table.append(
            {
                "index": index,
                "name": name,
                "colour": css_colour(info, index),
                "images": len(found),
                "share": area / sum(pixels),
                "confidence": sum(part * sure for part, sure in found) / area if area else 0.0,
                "given": sum(index in (row.given or ()) for row in rows),
                "missing": sum(index in row.missing for row in rows),
            }
        )
    return table


def _as_data(row: Row, folder: Path) -> dict[str, Any]:
    """What the script makes a card of, its links as seen from the page's folder."""
    height, width = row.size
    image = os.path.relpath(row.entry.image, folder)
    return {
        "name": row.entry.image.name,
        "file": encoded(image),
        "id": encoded(row.entry.id),
        "ratio": round(width / height, 4),
        "sure": row.confidence,
        "classes": [[index, *found] for index, found in row.classes.items()],
        "given": row.given,
        "missing": row.missing,
        "extra": row.extra,
        "scores": row.scores,
    }


def encoded(path: str) -> str:
    """A relative path as a URL; names keep their bytes, whatever their encoding."""
    return quote(os.fsencode(path))
