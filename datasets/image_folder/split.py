"""Training and validation parts that stay as a collection grows."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TRAIN, VAL = 0, 1


@dataclass(frozen=True)
class _Group:
    """Images that are not parted, as they have the same bytes; mostly one.

    Attributes:
        members: the images' numbers.
        objects: the indices of all their objects.
        place: from 0 to 1, by the first one's name; those below the share of validation go there.
    """

    members: list[int]
    objects: list[int]
    place: float


def split_images(
    names: Sequence[str],
    labels: np.ndarray,
    val_share: float,
    copies: Sequence[Sequence[int]] = (),
    before: Mapping[str, int] | None = None,
) -> np.ndarray:
    """Divide images into training and validation.

    A hash of an image's name, which is its path in the collection, decides. So each image stays
    where it is when others come or go, but for those that a part needs to have a class at all.

    Args:
        names: the images' relative paths.
        labels: N×(C − 1) zeros and ones.
        val_share: of validation, above 0 and below 1.
        copies: groups of equal images, which are not parted. A new copy goes where the others were.
        before: the parts that images were in before, as far as they are known.

    Returns:
        N zeros (`TRAIN`) and ones (`VAL`): both parts have every class that two different images
        have, where that is possible; a class of one image is in training.
    """
    groups = _group(names, labels, copies)
    parts = [
        _part_before([names[number] for number in group.members], before or {})
        if len(group.members) > 1
        else None
        for group in groups
    ]
    parts = [
        int(group.place < val_share) if part is None else part
        for group, part in zip(groups, parts, strict=True)
    ]
    _cover_classes(groups, parts, labels.shape[1])
    _fill_empty_part(groups, parts)
    result = np.zeros(len(names), np.uint8)
    for group, part in zip(groups, parts, strict=True):
        result[group.members] = part
    return result


def name_hash(name: str) -> float:
    """From 0 to 1, the same for a name on every system, which may compose its letters or not."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _group(
    names: Sequence[str], labels: np.ndarray, copies: Sequence[Sequence[int]]
) -> list[_Group]:
    in_copies = {number for members in copies for number in members}
    alone = ([number] for number in range(len(names)) if number not in in_copies)
    return [
        _Group(
            list(members),
            np.flatnonzero(labels[members].any(axis=0)).tolist(),
            name_hash(names[members[0]]),
        )
        for members in (*map(list, copies), *alone)
    ]


def _part_before(names: Sequence[str], before: Mapping[str, int]) -> int | None:
    """The part that all known ones of some images were in."""
    parts = {before[name] for name in names if name in before}
    return parts.pop() if len(parts) == 1 else None


def _cover_classes(groups: Sequence[_Group], parts: list[int], num_objects: int) -> None:
    """Move groups to parts that lack a class, those first that the hash places next to there."""
    having: list[list[int]] = [[] for _ in range(num_objects)]
    counts = np.zeros((2, num_objects), int)
    for number, group in enumerate(groups):
        for item in group.objects:
            having[item].append(number)
            counts[parts[number], item] += 1
    totals = counts.sum(axis=0)

    def may_leave(group: _Group, part: int) -> bool:
        """Whether all its classes stay in the part; the only image of one may leave validation."""
        return all(
            counts[part, item] > 1 or (part == VAL and totals[item] == 1) for item in group.objects
        )

    def fill(item: int, part: int) -> bool:
        """Move a group with a class to the part that lacks it; whether that was possible."""
        sign = 1 if part == VAL else -1
        free = [number for number in having[item] if may_leave(groups[number], 1 - part)]
        if not free:
            return False
        number = min(free, key=lambda number: sign * groups[number].place)
        parts[number] = part
        counts[part, groups[number].objects] += 1
        counts[1 - part, groups[number].objects] -= 1
        return True

    rarest_first = np.argsort(totals, kind="stable")
    moved = True
    while moved:  # each move adds a class to a part and takes none away
        moved = False
        for item in rarest_first:
            for part in (TRAIN, VAL):
                wanted = totals[item] > part  # validation has no claim to the only image
                if wanted and not counts[part, item]:
                    moved |= fill(item, part)


def _fill_empty_part(groups: Sequence[_Group], parts: list[int]) -> None:
    """Move one group where a part has none, as where each class has one image."""
    for part in (TRAIN, VAL):
        if part not in parts and len(groups) > 1:
            sign = 1 if part == VAL else -1
            fewest = min(
                range(len(groups)),
                key=lambda number: (len(groups[number].objects), sign * groups[number].place),
            )
            parts[fewest] = part
