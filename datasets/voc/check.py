"""Verify every list, image and mask under a data root. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.files import INDEX_MODES, find_strange
from datasets.images import decode_whole
from datasets.voc import PASCAL_VOC
from datasets.voc.errors import (
    DataError,
    how_to_replace,
    how_to_restore,
    is_mini_voc,
    missing,
)
from datasets.voc.layout import SBD, SBD_AUG, VOC_TEST
from datasets.voc.lists import (
    TEST_LIST,
    ListRule,
    describe_difference,
    has_aug,
    list_rules,
    read_ids,
    read_lines,
)
from datasets.voc.sbd_aug import SBD_AUG_MASKS, aug_ids
from datasets.voc.sbd_masks import mat_ids, read_sbd_mask
from utils.errors import UserError, os_errors_end_in, reason
from utils.processes import process_map
from utils.progress import LINES_IN_A_LOG, track


@dataclass(frozen=True)
class Sample:
    """An image and its mask, relative to the data root; None for one that is not to be looked at.

    An SBD mask stands for the .mat that it is made from, too.
    """

    image: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong with a sample's image and with its mask; None where nothing is."""

    image: DataError | None = None
    mask: DataError | None = None


@dataclass
class Part:
    """What has a row in the table: a list, or the masks of SBD or SegmentationClassAug.

    Attributes:
        name: the list's, or a word for the masks.
        lines: how many the list has, or how many masks there are; None for a list that is missing.
        samples: what should be there by the data sets' id lists; None where these do not tell.
        errors: what is wrong with the list and the id lists.
        of_masks: only masks are checked, not images.
    """

    name: str
    lines: int | None
    samples: list[Sample] | None = None
    errors: list[DataError] = field(default_factory=list)
    of_masks: bool = False

    def all_errors(self, findings: Mapping[Sample, Finding]) -> list[str]:
        """The part's own errors and then those of its samples by file, each once, as text."""
        found = [findings[sample] for sample in self.samples or ()]
        errors = [finding.mask for finding in found if finding.mask]
        if not self.of_masks:
            errors += [finding.image for finding in found if finding.image]
        errors.sort(key=lambda error: error.path)
        return list(dict.fromkeys(str(error) for error in [*self.errors, *errors]))


def check(root: Path, workers: int, official: bool) -> None:
    """Verify lists, images and masks under `root` in `workers` processes; print a table and errors.

    Lists must hold what the data sets' id lists give; images and masks must decode whole and have
    the same size, masks only labels that there are; SBD's PNGs must equal their .mat. `official`:
    each list must have as many lines as VOC 2012 and SBD as published give it.

    Raises:
        UserError: there are errors, or a worker died, or `root` cannot be read.
    """
    with os_errors_end_in(f"{root} and what it links to must be readable"):
        parts = [check_list(root, name, rule, official) for name, rule in list_rules(root).items()]
        parts += check_test_list(root)
        find_masks = find_aug_masks if has_aug(root) else find_sbd_masks
        parts.append(find_masks(root, parts))
        samples = list(dict.fromkeys(sample for part in parts for sample in part.samples or ()))
        findings = check_samples(root, samples, workers)

    print_table(parts, findings, PASCAL_VOC.expected_counts if not is_mini_voc(root) else {})
    end_in_errors(root, parts, findings)


def check_list(root: Path, name: str, rule: ListRule, official: bool) -> Part:
    """Compare the list `name` with what `rule` makes of the id lists, and these with `official`."""
    lines = read_lines(root / name)
    part = Part(name, lines if lines is None else len(lines))
    ids = []
    for file in rule.id_lists:
        try:
            ids.append(read_ids(root, file))
        except DataError as error:
            part.errors.append(error)
    if part.errors:
        return part

    expected = rule.lines(*ids)
    part.samples = [Sample(*columns) for columns in expected]
    problem = "missing" if lines is None else describe_difference(lines, expected)
    if problem:
        remedy = f"run `{PASCAL_VOC.prepare_command(root)}`, which writes it anew"
        part.errors.append(DataError(root / name, problem, remedy))
    published = PASCAL_VOC.expected_counts[name]
    if official and len(expected) != published:
        problem = f"the id lists give it {len(expected)} lines, those published {published}"
        remedy = (
            f"{how_to_replace(root, rule.id_lists[-1])}; or take another number with no --official "
            "(get_data.sh: --no-official)"
        )
        part.errors.append(DataError(root / name, problem, remedy))
    return part


def check_test_list(root: Path) -> list[Part]:
    """The part of a list of test images that are not there; none where there is no such list."""
    lines = read_lines(root / TEST_LIST)
    if lines is None or TEST_LIST in list_rules(root):
        return []
    error = missing(root, VOC_TEST.path)
    remedy = f"delete this list, or {error.remedy}"
    return [
        Part(TEST_LIST, len(lines), errors=[DataError(root / TEST_LIST, error.problem, remedy)])
    ]


def find_sbd_masks(root: Path, lists: Sequence[Part]) -> Part:
    """The part of all SBD masks, whether a list has them or not."""
    present = mat_ids(root)
    part = Part("SBD masks", len(present), of_masks=True)
    ids = set(present)
    for split in ("train", "val"):
        try:
            ids |= read_ids(root, SBD.id_list(split))
        except DataError as error:
            part.errors.append(error)
    if (root / SBD.path).is_dir():
        # those that a list has are the same samples, so that they are opened once
        listed = {sample.mask: sample for each in lists for sample in each.samples or ()}
        masks = [SBD.mask(image_id) for image_id in sorted(ids)]
        part.samples = [listed.get(mask, Sample(mask=mask)) for mask in masks]
    return part


def find_aug_masks(root: Path, lists: Sequence[Part]) -> Part:
    """The part of all masks of SegmentationClassAug, those of VOC's val, in no list, too."""
    ids = sorted(aug_ids(root / SBD_AUG.path))
    listed = {sample.mask: sample for each in lists for sample in each.samples or ()}
    own = [Sample(SBD_AUG.image(image_id), SBD_AUG.mask(image_id)) for image_id in ids]
    samples = [listed.get(sample.mask, sample) for sample in own]
    return Part(SBD_AUG_MASKS.name, len(ids), samples, of_masks=True)


def check_samples(root: Path, samples: Sequence[Sample], workers: int) -> dict[Sample, Finding]:
    """What is wrong with each sample, found in `workers` processes."""
    every = -(-len(samples) // LINES_IN_A_LOG)
    with process_map(partial(check_sample, root), samples, workers, chunksize=16) as found:
        tracked = track(found, len(samples), "sample", "checking", every)
        return dict(zip(samples, tracked, strict=True))


def check_sample(root: Path, sample: Sample) -> Finding:
    """Open a sample's files and compare them with each other."""
    size = image_error = mask_error = None
    try:
        if sample.image:
            size = _decode(root, sample.image).size
    except DataError as error:
        image_error = error
    try:
        if sample.mask:
            _check_mask(root, sample.mask, size)
    except DataError as error:
        mask_error = error
    return Finding(image_error, mask_error)


def _check_mask(root: Path, path: Path, size: tuple[int, int] | None) -> None:
    """Raise `DataError` unless a mask is one, and of the size of its image where that is known."""
    origin, truth = path, None
    if path.is_relative_to(SBD.png_folder):
        origin = SBD.mat(path.stem)
        truth = read_sbd_mask(root, path.stem)
    image = _decode(root, path)
    if image.mode not in INDEX_MODES:
        problem = f"it holds {image.mode} colours, where masks are palette or grey"
        raise DataError(root / path, problem, how_to_restore(root, path))
    mask = np.asarray(image)
    if truth is not None and not np.array_equal(mask, truth):
        raise DataError(root / path, f"it differs from {root / origin}", how_to_restore(root, path))
    if strange := find_strange(mask, PASCAL_VOC):
        raise DataError(root / path, f"it {strange}", how_to_restore(root, path))
    if size and image.size != size:
        problem = "this mask is {}×{} pixels, its image {}×{}".format(*image.size, *size)
        raise DataError(root / origin, problem, how_to_restore(root, origin))


def _decode(root: Path, path: Path) -> Image.Image:
    try:
        return decode_whole(root / path)
    except FileNotFoundError as error:
        raise missing(root, path) from error
    except PermissionError:
        raise  # as the same mostly goes for all files, and none of them needs to be replaced
    except OSError as error:
        problem = f"it cannot be read ({reason(error)})"
        raise DataError(root / path, problem, how_to_restore(root, path)) from error


def end_in_errors(root: Path, parts: Sequence[Part], findings: Mapping[Sample, Finding]) -> None:
    """Print the errors and raise `UserError`, or say that the data under `root` is whole."""
    # a list may share files with one before it
    errors = dict.fromkeys(error for part in parts for error in part.all_errors(findings))
    for error in errors:
        print(f"error: {error}")
    if errors:
        number = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise UserError(f"{number} in the data under {root}, named above, each with its remedy")
    print(f"the data under {root} is whole")


def print_table(
    parts: Sequence[Part], findings: Mapping[Sample, Finding], published: Mapping[str, int]
) -> None:
    """Print a row a part: lines, how many are published, images and masks that hold, errors."""
    rows = [("", "lines", "official", "images", "masks", "errors")]
    for part in parts:
        samples = part.samples or ()
        images = [each for each in samples if each.image and not part.of_masks]
        masks = [each for each in samples if each.mask]
        counts = (
            part.lines,
            published.get(part.name),
            sum(findings[sample].image is None for sample in images) if images else None,
            sum(findings[sample].mask is None for sample in masks) if masks else None,
            len(part.all_errors(findings)),
        )
        rows.append((part.name, *("-" if count is None else str(count) for count in counts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        aligned = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join([f"{name:{widths[0]}}", *aligned]))
