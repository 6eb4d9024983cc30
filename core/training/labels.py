"""The labels of all lists of a run, read once before it begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from core.distributed import Group
from datasets.files import ListEntry
from datasets.labels import (
    MaskFacts,
    count_table,
    doubts,
    labels_of_list,
    read_mask_facts,
    require_objects,
)
from datasets.records import DatasetRecord
from datasets.samples import ImageLevelSamples
from utils.errors import UserError
from utils.processes import FEW_ITEMS, available_cpus
from utils.progress import LINES_IN_A_LOG, track
from utils.signals import StoppedError, StopRequest

MOST_THREADS = 8


def read_labels(
    lists: Sequence[tuple[str, ImageLevelSamples]],
    record: DatasetRecord,
    group: Group,
    stop: StopRequest | None = None,
) -> None:
    """Give samples their labels, and print how many images of each list have each class.

    Each process reads its share of the masks, so that all of them must call this; the main one
    prints, and warns of what is odd. Masks whose images have another size are found here, too.

    Args:
        lists: the training list first, then those for validation, by their names.
        record: the data set's.
        group: the processes that train together.

    Raises:
        UserError: a mask cannot be read or has values that are no classes; a mask and its image
            differ in size; no image of the training list has an object.
        StoppedError: one of the processes was requested to stop.
    """
    entries = list(dict.fromkeys(entry for _, samples in lists for entry in samples.entries))
    facts = dict(zip(entries, _read_together(entries, group, stop), strict=True))
    found = []
    for name, samples in lists:
        of_list = [facts[entry] for entry in samples.entries]
        samples.labels = labels_of_list(name, samples.entries, of_list, record)
        if not found:
            require_objects(name, samples.labels, of_list, record.num_classes)
        found.append((name, samples.labels))
    if group.is_main:
        print(count_table(found, record), flush=True)
        for doubt in doubts(found, record):
            print(f"warning: {doubt}", file=sys.stderr)


def _read_together(
    entries: Sequence[ListEntry], group: Group, stop: StopRequest | None
) -> list[MaskFacts]:
    """What all masks hold; the first error of any process is raised in all of them."""
    own = entries[group.rank :: group.size]
    try:
        part = _read(own, shows=group.is_main and len(entries) > FEW_ITEMS, stop=stop)
    except (UserError, StoppedError) as error:
        part = error
    facts: list[MaskFacts | None] = [None] * len(entries)
    for rank, other in enumerate(group.gather(part)):
        if isinstance(other, (UserError, StoppedError)):
            raise other
        facts[rank :: group.size] = other
    return facts


def _read(
    entries: Sequence[ListEntry], shows: bool, stop: StopRequest | None = None
) -> list[MaskFacts]:
    facts = []
    with ThreadPoolExecutor(min(MOST_THREADS, available_cpus())) as pool:
        read = pool.map(read_mask_facts, entries)
        if shows:
            every = max(1, len(entries) // LINES_IN_A_LOG)
            read = track(read, len(entries), "mask", "reading labels", every)
        try:
            for found in read:
                if stop is not None and stop.signal is not None:
                    raise StoppedError
                facts.append(found)
        finally:
            pool.shutdown(cancel_futures=True)
    return facts
