"""Verify COCO's annotations, lists, images and masks under a data root. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.coco import COCO
from datasets.coco.annotations import EDGE, CocoImage, find_outside, leaving
from datasets.coco.errors import broken, how_to_restore
from datasets.coco.layout import Split, is_mini_coco
from datasets.coco.masks import paint_mask
from datasets.coco.prepare import Part, read_parts
from datasets.files import INDEX_MODES, find_strange
from datasets.images import decode_whole
from datasets.voc import check as report
from datasets.voc.errors import DataError
from utils.errors import os_errors_end_in, reason
from utils.processes import process_map
from utils.progress import LINES_IN_A_LOG, track


class _Item(NamedTuple):
    """What a process looks at: an image, its mask's path or None, whether that was painted here."""

    split: Split
    image: CocoImage
    mask: Path | None
    painted: bool


def check_coco(
    root: Path, workers: int, official: bool, parts: Sequence[Part] | None = None
) -> None:
    """Verify COCO under `root` in `workers` processes; print a table and errors.

    Lists must hold what the annotations give; images and masks must decode whole and have the size
    that the annotations say; masks must be as they are painted, those of somebody else hold
    classes. `official`: there must be as many images as in COCO 2014 as published.

    Args:
        parts: what is under `root`, where that has been read already.

    Raises:
        UserError: there are errors, or a worker died, or `root` cannot be read.
    """
    with os_errors_end_in(f"{root} and what it links to must be readable"):
        parts = read_parts(root) if parts is None else parts
        rows, findings = [], {}
        for part in parts:
            rows.append(_check_list(root, part, official))
            findings |= _check_images(root, part, workers)

    published = {} if is_mini_coco(root) else COCO.expected_counts
    report.print_table(rows, findings, published)
    for part in parts:
        _note_leaving(part)
    report.end_in_errors(root, rows, findings)


def _note_leaving(part: Part) -> None:
    """Say which objects are painted only in part; COCO as published may have some."""
    left = [(each, image) for image in part.images for each in leaving(image)]
    if left:
        instance, image = left[0]
        number = (
            "1 object leaves its image" if len(left) == 1 else f"{len(left)} objects leave theirs"
        )
        print(
            f"note: of {part.split.annotations}, {number} by more than {EDGE} pixels, annotation "
            f"{instance.id} of {image.name} for one; masks hold what is inside"
        )


def _check_list(root: Path, part: Part, official: bool) -> report.Part:
    """The row of a list: what is wrong with it, and with its annotations."""
    path, split = root / part.split.list, part.split
    errors: list[DataError] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = None
    problem = "missing" if lines is None else _difference(lines, part.list_text().splitlines())
    if problem:
        remedy = f"run `{COCO.prepare_command(root)}`, which writes it anew"
        errors.append(DataError(path, problem, remedy))
    published = COCO.expected_counts[split.list]
    if official and len(part.images) != published:
        problem = f"it has {len(part.images)} images, that published {published}"
        remedy = (
            f"{how_to_restore(root, split.annotations)}; or take another number with no --official "
            "(get_coco.sh: --no-official)"
        )
        errors.append(DataError(root / split.annotations, problem, remedy))
    outside = (find_outside(image) for image in part.images)
    errors += [broken(root, split.annotations, problem) for problem in outside if problem]
    samples = [_sample(part, image) for image in part.images]
    number = None if lines is None else max(len(lines) - 1, 0)
    return report.Part(split.list, number, samples, errors)


def _sample(part: Part, image: CocoImage) -> report.Sample:
    return report.Sample(part.split.images / image.name, part.masks.get(image.name))


def _difference(lines: Sequence[str], expected: Sequence[str]) -> str:
    """What tells a list from the expected one, whose order does not count; "" if nothing does."""
    if lines[:1] != list(expected[:1]):
        return f"its header is not {expected[0]}"
    lacking = list((Counter(expected) - Counter(lines)).elements())
    foreign = list((Counter(lines) - Counter(expected)).elements())
    kinds = (("missing by the annotations", lacking), ("not by the annotations", foreign))
    return ", ".join(
        f"{len(some)} line{'s' * (len(some) > 1)} {kind} ({some[0]})"
        for kind, some in kinds
        if some
    )


def _check_images(root: Path, part: Part, workers: int) -> Mapping[report.Sample, report.Finding]:
    items = [
        _Item(part.split, image, part.masks.get(image.name), part.painted) for image in part.images
    ]
    every = -(-len(items) // LINES_IN_A_LOG)
    with process_map(partial(_check_image, root), items, workers, chunksize=16) as found:
        tracked = track(found, len(items), "image", f"checking {part.split.name}", every)
        return {
            _sample(part, item.image): finding for item, finding in zip(items, tracked, strict=True)
        }


def _check_image(root: Path, item: _Item) -> report.Finding:
    image_error = mask_error = None
    size = item.image.width, item.image.height
    path = item.split.images / item.image.name
    try:
        found = _decode(root, path).size
        if found != size:
            problem = "it is {}×{} pixels, by the annotations {}×{}".format(*found, *size)
            raise broken(root, path, problem)
    except DataError as error:
        image_error = error
    try:
        if item.mask:
            _check_mask(root, item)
    except DataError as error:
        mask_error = error
    return report.Finding(image_error, mask_error)


def _check_mask(root: Path, item: _Item) -> None:
    """Raise `DataError` unless a mask is one, of its image's size, and as it is painted."""
    truth, path = None, item.mask
    if item.painted and not find_outside(item.image):  # of which there is an error already
        try:
            truth = paint_mask(item.image)
        except ValueError as error:
            raise broken(root, item.split.annotations, str(error)) from error
    image = _decode(root, path)
    if image.mode not in INDEX_MODES:
        problem = f"it holds {image.mode} colours, where masks are palette or grey"
        raise broken(root, path, problem)
    mask = np.asarray(image)
    size = item.image.height, item.image.width
    if mask.shape != size:
        problem = "this mask is {}×{} (height×width), its image {}×{}".format(*mask.shape, *size)
        raise broken(root, path, problem)
    if strange := find_strange(mask, COCO):
        raise broken(root, path, f"it {strange}")
    if truth is not None and not np.array_equal(mask, truth):
        raise broken(root, path, f"it differs from {root / item.split.annotations}")


def _decode(root: Path, path: Path) -> Image.Image:
    try:
        return decode_whole(root / path)
    except FileNotFoundError as error:
        raise broken(root, path, "missing") from error
    except PermissionError:
        raise  # as the same mostly goes for all files, and none of them needs to be replaced
    except OSError as error:
        raise broken(root, path, f"it cannot be read ({reason(error)})") from error
