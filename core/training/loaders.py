"""Batches for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from core.config import Config
from datasets.files import read_list
from datasets.presence import require_files
from datasets.records import DatasetRecord
from datasets.samples import EpochSampler, ImageLevelSamples, collate
from datasets.transforms import train_transform, val_transform
from utils.errors import UserError


class Batches:
    """The batches of one file list: (raw images B×3×H×W in [0, 1], labels B×(C − 1)).

    Iterating over `epoch(n)` raises the `UserError` of a file that cannot be used.
    """

    def __init__(
        self,
        samples: ImageLevelSamples,
        batch_size: int,
        workers: int,
        device: torch.device,
        *,
        training: bool,
    ) -> None:
        self.sampler = EpochSampler(len(samples), samples.seed, shuffle=training)
        self.loader = DataLoader(
            samples,
            batch_size=batch_size,
            sampler=self.sampler,
            drop_last=training,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            # the workers' own seeds, of which nothing depends, leave the global generator alone
            generator=torch.Generator(),
            persistent_workers=workers > 0 and training,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, in its order."""
        self.sampler.epoch = epoch
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_batches(
    config: Config, record: DatasetRecord, seed: int, device: torch.device
) -> Batches:
    """Random views of the training list in random order; a last batch that is not full is dropped.

    Raises:
        UserError: the list cannot be read, names files that are missing, or holds less than one
            batch.
    """
    data = config.DATASET
    transform = train_transform(data.CROP_SIZE, data.SCALE_FROM, data.SCALE_TO)
    batches = _batches(config, record, record.train_list, transform, seed, device, training=True)
    if len(batches) == 0:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} exceeds the "
            f"{batches.sampler.length} images of {record.train_list}: there is no full batch"
        )
    return batches


def validation_batches(
    config: Config, record: DatasetRecord, device: torch.device
) -> dict[str, Batches]:
    """The validation lists by the writer of their scores; each image whole, always the same."""
    transform = val_transform(config.DATASET.CROP_SIZE)
    return {
        writer: _batches(config, record, name, transform, 0, device, training=False)
        for writer, name in record.val_lists.items()
    }


def _batches(
    config: Config,
    record: DatasetRecord,
    name: str,
    transform: Callable[[Image.Image], Tensor],
    seed: int,
    device: torch.device,
    *,
    training: bool,
) -> Batches:
    root = Path(config.DATASET.PATH)
    entries = read_list(root / name, root)
    require_files(entries)
    samples = ImageLevelSamples(entries, transform, record.num_classes, record.ignore_index, seed)
    train = config.TRAIN
    return Batches(samples, train.BATCH_SIZE, train.NUM_WORKERS, device, training=training)
