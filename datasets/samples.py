"""Samples for training: an image and which objects it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.files import read_image
from datasets.lists import ListEntry


class ImageLevelSamples:
    """Pairs (transformed image 3×H×W, labels of C − 1 zeros and ones), by (epoch, index).

    All randomness in a sample derives from the seed, the epoch and the index, so that it depends
    neither on the number of workers nor on earlier draws.

    Args:
        entries: the file list.
        transform: a PIL image to a 3×H×W tensor.
        seed: of the transform.
        passes: how often an epoch has each image; its views differ.

    Attributes:
        labels: N×(C − 1) uint8 zeros and ones, of the whole images rather than their crops; to be
            set before the first sample is taken (`core.training.data.read_labels`).
    """

    labels: np.ndarray

    def __init__(
        self,
        entries: Sequence[ListEntry],
        transform: Callable[[Image.Image], Tensor],
        seed: int,
        passes: int = 1,
    ) -> None:
        self.entries = entries
        self.transform = transform
        self.seed = seed
        self.passes = passes

    def __len__(self) -> int:
        return len(self.entries) * self.passes

    def number(self, index: int) -> int:
        """The number in the list of the image that a sample shows."""
        return index % len(self.entries)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Raises `UserError` for an image that cannot be used."""
        epoch, index = key
        number = self.number(index)
        entry = self.entries[number]
        image = read_image(entry.image, entry.exif)
        labels = torch.from_numpy(self.labels[number]).float()
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed every GPU
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self.transform(image), labels


def load_batch(
    samples: ImageLevelSamples, keys: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of some keys, stacked: (images B×3×H×W, labels B×(C − 1)).

    Arrays, because PyTorch passes tensors between processes through shared memory, of which
    containers have little.
    """
    images, labels = zip(*(samples[key] for key in keys), strict=True)
    return torch.stack(images).numpy(), torch.stack(labels).numpy()


class EpochSampler:
    """The (epoch, index) of the samples of this process; no two processes share one.

    For training, samples are shuffled by the seed and the epoch. Each process takes an equal part
    of every batch, so that together they see the batches of a single process; an incomplete last
    batch is dropped. For validation, samples are dealt out in turn, in the order of the list.

    Args:
        length: the number of samples.
        seed: of the order.
        batch_size: of the processes together, for training; None for validation.
        rank: of this process.
        processes: how many share the samples; they divide `batch_size`.
    """

    def __init__(
        self, length: int, seed: int, batch_size: int | None, rank: int = 0, processes: int = 1
    ) -> None:
        self.length = length
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def __len__(self) -> int:
        return len(range(self.rank, self.length_of_all, self.processes))

    @property
    def length_of_all(self) -> int:
        """The number of samples that the processes have in an epoch together."""
        if self.batch_size is None:
            return self.length
        return self.length // self.batch_size * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, int(index)) for index in self.indices())

    def indices(self) -> np.ndarray:
        """The indices of this epoch's samples, in the order in which they come."""
        order = np.arange(self.length)
        if self.batch_size is None:
            return order[self.rank :: self.processes]
        np.random.default_rng(mix_seed(self.seed, self.epoch)).shuffle(order)
        part = self.batch_size // self.processes
        batches = order[: self.length_of_all].reshape(-1, self.processes, part)
        return batches[:, self.rank].reshape(-1)


def mix_seed(*parts: int) -> int:
    """Mix non-negative integers into one 32-bit seed."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
