"""What training reads: batches of its lists, and the image labels of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.config import Config
from core.distributed import Group
from datasets.image_labels import require_labels
from datasets.info import DatasetInfo
from datasets.labels import (
    MaskFacts,
    count_table,
    doubts,
    given_labels,
    labels_of_list,
    read_mask_facts,
    require_objects,
)
from datasets.lists import ListEntry, read_list, require_files, require_masks
from datasets.samples import EpochSampler, ImageLevelSamples, load_batch
from datasets.transforms import train_transform, unit_range, val_transform
from utils.ahead import one_ahead
from utils.errors import UserError
from utils.processes import FEW_ITEMS, available_cpus
from utils.progress import LINES_IN_A_LOG, track
from utils.signals import StoppedError, StopRequest
from utils.workers import Workers

MOST_OF_TRAIN = 5000
"""Images of the training list that are validated too, where the data set does not say which."""
SMALLER_BATCHES = "lower TRAIN.BATCH_SIZE or DATASET.CROP_SIZE, and go on with --resume auto"
FEWER_WORKERS = "lower TRAIN.NUM_WORKERS (--workers), and go on with --resume auto"


class Batches:
    """The batches of one file list: (raw images B×3×H×W in [0, 1], labels B×(C − 1)).

    Of several processes, each has its part of every batch.

    Args:
        samples: the list's; views in [0, 1], or of uint8, which are scaled here.
        batch_size: of all processes together.
        workers: processes that load images; 0 lets this one load them.
        device: where batches go; they are pinned for a GPU.
        group: the processes that share the batches.
        training: in random order, without a last batch that is not full.
    """

    def __init__(
        self,
        samples: ImageLevelSamples,
        batch_size: int,
        workers: int,
        device: torch.device,
        group: Group,
        *,
        training: bool,
    ) -> None:
        self.samples = samples
        self.local_batch_size = batch_size // group.size
        self.sampler = EpochSampler(
            len(samples), samples.seed, batch_size if training else None, group.rank, group.size
        )
        self.workers = workers
        self.pinned = device.type == "cuda"

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.local_batch_size)

    @property
    def images_of_all(self) -> int:
        """The number of images that all processes pass in an epoch."""
        return self.sampler.length_of_all

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, in its order.

        Raises:
            UserError: an image cannot be used, memory is short, or a process that loads images
                cannot be started or died.
        """
        self.sampler.epoch = epoch
        keys = list(self.sampler)
        keys = [
            keys[start : start + self.local_batch_size]
            for start in range(0, len(keys), self.local_batch_size)
        ]
        try:
            yield from self._load(keys)
        except MemoryError as error:
            remedy = FEWER_WORKERS if self.workers else SMALLER_BATCHES
            raise UserError(f"memory is short for loading images; {remedy}") from error

    def _load(self, keys: list[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        load = partial(load_batch, self.samples)
        count = min(self.workers, len(keys))
        if count == 0:
            yield from map(self._to_tensors, map(load, keys))
            return
        # one thread in each: there are others, and OpenMP's do not survive a fork
        one_thread = partial(torch.set_num_threads, 1)
        with (
            Workers(load, count, "loads images", FEWER_WORKERS, one_thread) as workers,
            # what is left to do here would hold up the network
            closing(one_ahead(map(self._to_tensors, workers.map(keys)))) as batches,
        ):
            yield from batches

    def _to_tensors(self, arrays: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        views, labels = map(torch.from_numpy, arrays)
        batch = unit_range(views), labels
        return tuple(tensor.pin_memory() for tensor in batch) if self.pinned else batch

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first images of the list, whatever part of it falls to this process."""
        keys = [(0, index) for index in range(min(count, len(self.samples)))]
        return self._to_tensors(load_batch(self.samples, keys))

    def names(self, epoch: int, step: int) -> list[str]:
        """The images of the batch at `step` of an epoch."""
        self.sampler.epoch = epoch
        indices = self.sampler.indices()[
            step * self.local_batch_size : (step + 1) * self.local_batch_size
        ]
        return [self.samples.entries[self.samples.number(index)].id for index in indices]


def training_batches(
    config: Config, info: DatasetInfo, seed: int, device: torch.device, group: Group
) -> Batches:
    """Random views of the training list in random order; a last batch that is not full is dropped.

    Raises:
        UserError: the list cannot be read, holds less than one batch, or the processes do not
            divide a batch.
    """
    if config.TRAIN.BATCH_SIZE % group.size:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} is the size over all processes, and "
            f"{group.size} of them cannot have equal parts of it; choose a multiple"
        )
    data, train = config.DATASET, config.TRAIN
    transform = train_transform(data.CROP_SIZE, data.SCALE_FROM, data.SCALE_TO, torch.uint8)
    entries = read_training_list(config, info, info.train_list)
    passes = _passes(config, len(entries))
    samples = ImageLevelSamples(entries, transform, seed, passes)
    batches = Batches(samples, train.BATCH_SIZE, train.NUM_WORKERS, device, group, training=True)
    if len(batches) == 0:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} exceeds the "
            f"{len(entries)} images of {info.train_list}: there is no full batch"
        )
    return batches


def validation_batches(
    config: Config,
    info: DatasetInfo,
    training: Sequence[ListEntry],
    device: torch.device,
    group: Group,
) -> dict[str, Batches]:
    """Batches of the validation lists by TensorBoard writer (`train`, `val`): whole images, no
    randomness.

    `training` has the entries of the training list, of which some are validated too where the data
    set does not say which.

    Raises:
        UserError: a list cannot be read, or has fewer images than there are processes.
    """
    transform = val_transform(config.DATASET.CROP_SIZE, torch.uint8)
    size, workers = config.TRAIN.BATCH_SIZE, config.TRAIN.NUM_WORKERS
    val = read_training_list(config, info, info.val_list)
    if info.val_train_list:
        of_train = read_training_list(config, info, info.val_train_list)
    else:
        of_train = _sample(training, min(len(val), MOST_OF_TRAIN))
    batches = {}
    for writer, entries in (("train", of_train), ("val", val)):
        samples = ImageLevelSamples(entries, transform, 0)
        if len(samples) < group.size:
            raise UserError(
                f"{list_names(info)[writer]} has {len(samples)} images, fewer than the "
                f"{group.size} processes; lower NPROC"
            )
        batches[writer] = Batches(samples, size, workers, device, group, training=False)
    return batches


def _passes(config: Config, images: int) -> int:
    """How often an epoch has each image, so that all epochs have TRAIN.MIN_STEPS steps at least."""
    steps = -(-config.TRAIN.MIN_STEPS // (config.TRAIN.NUM_EPOCHS + 1))
    return max(1, -(-steps * config.TRAIN.BATCH_SIZE // images))


def list_names(info: DatasetInfo) -> dict[str, str]:
    """What the validation sets are called in messages, by TensorBoard writer."""
    sample = f"sample of {Path(info.train_list).name}"
    of_train = Path(info.val_train_list).name if info.val_train_list else sample
    return {"train": of_train, "val": Path(info.val_list).name}


def _sample(entries: Sequence[ListEntry], count: int) -> list[ListEntry]:
    """At most `count` of a list's entries, in its order; the same ones in every run."""
    chosen = np.random.default_rng(0).permutation(len(entries))[:count]
    return [entries[index] for index in sorted(chosen)]


def read_training_list(config: Config, info: DatasetInfo, name: str) -> list[ListEntry]:
    """The entries of a list of the data set, with masks only where labels are to come from them.

    Raises:
        UserError: the list cannot be read, or has neither labels nor masks.
    """
    root = Path(config.DATASET.PATH)
    entries = [
        replace(entry, mask=None) if info.labels or entry.labels is not None else entry
        for entry in read_list(root / name, root, info)
    ]
    require_masks(
        [entry for entry in entries if not info.labels and entry.labels is None],
        "name a table of labels in dataset.yaml (labels), or add the column",
        "training has no labels",
    )
    return entries


def require_listed_files(batches: Sequence[Batches], config: Config, info: DatasetInfo) -> None:
    """Raise `MissingError`, which carries all of them, where files of any list are missing."""
    entries = dict.fromkeys(entry for each in batches for entry in each.samples.entries)
    require_files(list(entries), config.DATASET.PATH, info)


MAX_THREADS = 8


def read_labels(
    lists: Sequence[tuple[str, ImageLevelSamples]],
    info: DatasetInfo,
    group: Group,
    stop: StopRequest | None = None,
) -> None:
    """Give samples their labels, and print how many images of each list have each class.

    Labels come from the list's own column, else from the data set's labels table, else from masks,
    of which each process reads its part; so all of them must call this. Rank 0 prints, and warns of
    what looks odd. Masks whose images have another size are found here, too.

    Args:
        lists: the training list first, then those for validation, by their names.
        info: the data set, whose `path` is the data root.
        group: the processes that train together.

    Raises:
        UserError: the table cannot be read, or lacks an image; a mask cannot be read or has values
            that are no classes; a mask and its image differ in size; no image of the training list
            has an object.
        StoppedError: one of the processes was requested to stop.
    """
    entries = list(dict.fromkeys(entry for _, samples in lists for entry in samples.entries))
    labels, unused = given_labels(entries, info)
    if info.labels:
        images = {entry.image: found for entry, found in labels.items()}
        require_labels(info.labels_path, images, unused)
    with_masks = [entry for entry in entries if entry not in labels]
    facts = dict(zip(with_masks, _read_together(with_masks, group, stop), strict=True))
    found = []
    for name, samples in lists:
        of_masks = [entry for entry in samples.entries if entry in facts]
        of_list = [facts[entry] for entry in of_masks]
        if of_masks:
            labels |= zip(of_masks, labels_of_list(name, of_masks, of_list, info), strict=True)
        samples.labels = np.stack([labels[entry] for entry in samples.entries])
        if not found:
            require_objects(name, samples.labels, of_list, info.num_classes)
        found.append((name, samples.labels))
    if group.is_rank_zero:
        if unused:
            print(
                f"note: {len(unused)} names in {info.labels_path} belong to no image of the "
                f"lists, the first {unused[0]}"
            )
        print(count_table(found, info), flush=True)
        for doubt in doubts(found, info):
            print(f"warning: {doubt}", file=sys.stderr)


def _read_together(
    entries: Sequence[ListEntry], group: Group, stop: StopRequest | None
) -> list[MaskFacts]:
    """The classes in all masks; the first error of any process is raised in all of them."""
    try:
        part = _read(
            entries[group.rank :: group.size],
            shows=group.is_rank_zero and len(entries) > FEW_ITEMS,
            stop=stop,
        )
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
    with ThreadPoolExecutor(min(MAX_THREADS, available_cpus())) as pool:
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
