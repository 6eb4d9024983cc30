"""A folder of masks with its page, made up, its files named as careless links would break at."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from result_case import PALETTE

from core.inference.page import write_page
from core.inference.writing import Outputs, write_result
from datasets.info import DatasetInfo
from datasets.lists import ListEntry

NAMES = ("50% off.jpg", "a#1?.png", 'it\'s "so".jpg', "Grüße & <b>.jpg", "x.jpg", "y é.jpg")
CLASSES = ("background", "cat", "</script><dog>", "hen")
INFO = DatasetInfo("pets", CLASSES, "train.txt", "val.txt", palette=PALETTE)
CAT, DOG, HEN = 1, 2, 3


def merged_of(masks: Mapping[int, tuple[int, float]], height: int = 12, width: int = 20):
    """Merged masks: by object its columns' number, from the left on, and its share there."""
    merged = np.zeros((len(CLASSES), height, width), np.float32)
    merged[0] = 0.8
    left = 0
    for index, (columns, share) in masks.items():
        merged[:, :, left : left + columns] = 0
        merged[index, :, left : left + columns] = share
        merged[0, :, left : left + columns] = 1 - share
        left += columns
    return merged


def write_image(
    outputs: Outputs,
    path: Path,
    masks: Mapping[int, tuple[int, float]],
    given: Sequence[int] | None = None,
) -> ListEntry:
    """Write an image, and the results that such merged masks have."""
    merged = merged_of(masks)
    image = np.full((*merged.shape[1:], 3), 200, np.uint8)
    Image.fromarray(image).save(path)
    labels = None if given is None else np.isin([CAT, DOG, HEN], given).astype(np.float32)
    entry = ListEntry(path, None)
    scores = np.array([0.9, 0.8, 0.7])
    write_result(outputs, entry.id, image, merged, None, scores, labels)
    return entry


def make_pages(folder: Path) -> list[ListEntry]:
    """FOLDER/photographs, FOLDER/masks and their page; labels of all but the last image."""
    photographs = folder / "photographs"
    photographs.mkdir(parents=True)
    outputs = outputs_in(folder)
    contents = [
        ({CAT: (10, 0.9)}, [CAT]),
        ({CAT: (4, 0.6), HEN: (2, 0.95)}, [CAT, HEN]),
        # the dog is not found
        ({CAT: (5, 0.99)}, [CAT, DOG]),
        ({}, []),
        # the hen is not labelled
        ({HEN: (8, 0.7)}, []),
        ({DOG: (7, 0.75)}, None),
    ]
    entries = [
        write_image(outputs, photographs / name, masks, given)
        for name, (masks, given) in zip(NAMES, contents, strict=True)
    ]
    write_page(outputs, entries, INFO, {"images": "photographs"})
    return entries


def outputs_in(folder: Path) -> Outputs:
    # the CRF of so few pixels may do as it likes; most tests want to know the masks
    return Outputs(folder / "masks", PALETTE, 255, crf=False, page=True, min_score=0.75)


def data_of(page: Path) -> dict:
    """What the script of a page gets."""
    text = page.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def target(page: Path, link: str) -> Path:
    """The file that a relative URL of a page leads to."""
    from urllib.parse import unquote_to_bytes

    return page.parent / os.fsdecode(unquote_to_bytes(link))
