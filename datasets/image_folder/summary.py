"""What a collection holds, as a table, and what the method cannot learn from it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from datasets.image_folder.collection import Collection
from datasets.image_folder.split import TRAIN, VAL

FEW_IMAGES = 20
"""A class with fewer images is hardly learnt."""
PAIRS_SHOWN = 10
CLASSES_NAMED = 10
"""Of so many classes that have few images each is warned of; the others are counted."""


def summary(collection: Collection) -> str:
    """Images and share of each class, pairs of classes that come together, sizes."""
    return "\n".join(
        [_class_table(collection), "", *_pair_lines(collection), *_size_lines(collection)]
    )


def _class_table(collection: Collection) -> str:
    labels, parts = collection.labels, collection.parts
    columns = [*labels.T.astype(bool), ~labels.any(axis=1), np.ones(len(labels), bool)]
    rows = [("images with", "all", "share", "train", "val")]
    for name, has in zip([*collection.objects, "no object", "in all"], columns, strict=True):
        in_parts = (str(np.count_nonzero(has & (parts == part))) for part in (TRAIN, VAL))
        rows.append((name, str(np.count_nonzero(has)), f"{100 * has.mean():.1f}%", *in_parts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([f"{name:{widths[0]}}", *map(str.rjust, cells, widths[1:])])
        for name, *cells in rows
    )


def _pair_lines(collection: Collection) -> list[str]:
    # float32 multiplies fast, and counts exactly up to 2^24
    has = collection.labels.astype(np.float32)
    counts = np.triu(has.T @ has, k=1).astype(int)
    order = np.argsort(-counts, axis=None, kind="stable")[:PAIRS_SHOWN]
    pairs = [
        pair for pair in zip(*np.unravel_index(order, counts.shape), strict=True) if counts[pair]
    ]
    names = collection.objects
    return ["most often together:"] * bool(pairs) + [
        f"  {names[first]} and {names[second]}: {counts[first, second]}" for first, second in pairs
    ]


def _size_lines(collection: Collection) -> list[str]:
    return [
        f"{side} in pixels: {values.min()} to {values.max()}, median {np.median(values):.0f}"
        for side, values in zip(("width", "height"), collection.sizes.T, strict=True)
    ]


def warnings(collection: Collection) -> list[str]:
    """What training can do little about, a line each with a remedy."""
    return [
        *_everywhere(collection),
        *_always_together(collection),
        *_rare(collection),
        *_in_one_part(collection),
        *_unequal_copies(collection),
        *_shared_ids(collection),
    ]


def _everywhere(collection: Collection) -> list[str]:
    names = [collection.objects[index] for index in np.flatnonzero(collection.labels.all(axis=0))]
    if len(collection.objects) == 1 and names:
        return [
            f"{names[0]!r} is the one class, and no image lacks it: nothing tells it from "
            "background; add images without it"
        ]
    return [
        f"{name!r} is in every image: nothing tells it from background; add images without it, or "
        "leave the class out"
        for name in names
    ]


def _always_together(collection: Collection) -> list[str]:
    alike: dict[bytes, list[str]] = defaultdict(list)
    for name, has in zip(collection.objects, collection.labels.T, strict=True):
        if not has.all():
            alike[has.tobytes()].append(name)
    return [
        f"{' and '.join(map(repr, names))} always come together: nothing tells them apart; add "
        "images of one alone, or make them one class"
        for names in alike.values()
        if len(names) > 1
    ]


def _rare(collection: Collection) -> list[str]:
    counts = collection.labels.sum(axis=0, dtype=int)
    rare = [index for index in np.argsort(counts, kind="stable") if counts[index] < FEW_IMAGES]
    found = [
        f"{collection.objects[index]!r} has {_images(counts[index])}, fewer than {FEW_IMAGES}, to "
        "learn it from; add images of it, or leave the class out"
        for index in rare[:CLASSES_NAMED]
    ]
    if others := rare[CLASSES_NAMED:]:
        found.append(
            f"{len(others)} other classes have fewer than {FEW_IMAGES} images too; add images of "
            "them, or leave them out"
        )
    return found


def _in_one_part(collection: Collection) -> list[str]:
    """On classes of two images or more that could not be in both parts."""
    found = []
    counts = collection.labels.sum(axis=0, dtype=int)
    for part, name in ((TRAIN, "train"), (VAL, "val")):
        has = collection.labels[collection.parts == part].any(axis=0)
        found += [
            f"{collection.objects[index]!r} is missing in {name}, as its images are equal or have "
            "other rare classes; add images of it"
            for index in np.flatnonzero(~has & (counts > 1))
        ]
    return found


def _unequal_copies(collection: Collection) -> list[str]:
    labels = collection.labels
    groups = [group for group in collection.copies if np.ptp(labels[group], axis=0).any()]
    if not groups:
        return []
    first = groups[0][0]
    second = next(number for number in groups[0] if (labels[number] != labels[first]).any())
    others = f", as are {len(groups) - 1} more images" if len(groups) > 1 else ""
    return [
        f"{collection.names[first]} and {collection.names[second]} are one image with different "
        f"labels{others}; correct the labels, or remove one of them"
    ]


def _shared_ids(collection: Collection) -> list[str]:
    seen: dict[str, str] = {}
    pairs = []
    for name in collection.names:
        other = seen.setdefault(_id(name), name)
        if other is not name:
            pairs.append((other, name))
    if not pairs:
        return []
    others = f", and {len(pairs) - 1} more are like that" if len(pairs) > 1 else ""
    return [
        f"{pairs[0][0]} and {pairs[0][1]} would have masks of one name, {_id(pairs[0][1])}.png"
        f"{others}; rename one to segment both into one folder"
    ]


def _id(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"
