"""Batches for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from core.config import Config
from core.distributed import Group
from datasets.files import read_list
from datasets.presence import require_files
from datasets.records import DatasetRecord
from datasets.samples import EpochSampler, ImageLevelSamples, collate
from datasets.transforms import train_transform, val_transform
from utils.errors import UserError


class Batches:
    """The batches of one file list: (raw images B×3×H×W in [0, 1], labels B×(C − 1)).

    Of several processes, each has its part of every batch.

    Iterating over `epoch(n)` raises the `UserError` of a file that cannot be used.
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
        self.share = batch_size // group.size
        self.sampler = EpochSampler(
            len(samples), samples.seed, batch_size if training else None, group.rank, group.size
        )
        self.loader = DataLoader(
            samples,
            batch_size=self.share,
            sampler=self.sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            # the workers' own seeds, of which nothing depends, leave the global generator alone
            generator=torch.Generator(),
            persistent_workers=workers > 0 and training,
        )

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def images_of_all(self) -> int:
        """The number of images that all processes pass in an epoch."""
        return self.sampler.length_of_all

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, in its order."""
        self.sampler.epoch = epoch
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def names(self, epoch: int, step: int) -> list[str]:
        """The images of the batch at `step` of an epoch."""
        self.sampler.epoch = epoch
        indices = self.sampler.indices()[step * self.share : (step + 1) * self.share]
        return [self.samples.entries[index].id for index in indices]


def training_batches(
    config: Config, record: DatasetRecord, seed: int, device: torch.device, group: Group
) -> Batches:
    """Random views of the training list in random order; a last batch that is not full is dropped.

    Raises:
        UserError: the list cannot be read, names files that are missing, holds less than one batch,
            or the processes do not divide a batch.
    """
    if config.TRAIN.BATCH_SIZE % group.size:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} is the size over all processes, and "
            f"{group.size} of them cannot have equal parts of it; choose a multiple"
        )
    data = config.DATASET
    transform = train_transform(data.CROP_SIZE, data.SCALE_FROM, data.SCALE_TO)
    batches = _batches(
        config, record, record.train_list, transform, seed, device, group, training=True
    )
    if len(batches) == 0:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} exceeds the "
            f"{batches.sampler.length} images of {record.train_list}: there is no full batch"
        )
    return batches


def validation_batches(
    config: Config, record: DatasetRecord, device: torch.device, group: Group
) -> dict[str, Batches]:
    """The validation lists by the writer of their scores; each image whole, always the same.

    Raises:
        UserError: a list cannot be read, or has fewer images than there are processes.
    """
    transform = val_transform(config.DATASET.CROP_SIZE)
    batches = {
        writer: _batches(config, record, name, transform, 0, device, group, training=False)
        for writer, name in record.val_lists.items()
    }
    for writer, each in batches.items():
        if each.sampler.length < group.size:
            raise UserError(
                f"{record.val_lists[writer]} has {each.sampler.length} images, which cannot be "
                f"spread over {group.size} processes; take fewer"
            )
    return batches


def _batches(
    config: Config,
    record: DatasetRecord,
    name: str,
    transform: Callable[[Image.Image], Tensor],
    seed: int,
    device: torch.device,
    group: Group,
    *,
    training: bool,
) -> Batches:
    root = Path(config.DATASET.PATH)
    entries = read_list(root / name, root)
    require_files(entries)
    samples = ImageLevelSamples(entries, transform, record.num_classes, record.ignore_index, seed)
    train = config.TRAIN
    return Batches(samples, train.BATCH_SIZE, train.NUM_WORKERS, device, group, training=training)
