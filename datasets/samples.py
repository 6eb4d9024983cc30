"""Samples for training: an image and which objects it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datasets.files import (
    ListEntry,
    labels_of_mask,
    read_image,
    read_mask,
    require_masks,
    strange_labels,
)
from utils.errors import UserError

NOT_READ = -1
"""In place of the labels of an image whose mask was not read yet."""


class ImageLevelSamples(Dataset):
    """Pairs (raw image 3×H×W in [0, 1], labels of C − 1 zeros and ones), by (epoch, index).

    The labels are those of the whole mask, whatever part of the image the transform takes.
    What is random in a sample follows from the seed, the epoch and the index alone, so that it
    depends neither on the number of workers nor on what was drawn before. A mask is read once: its
    labels are kept where all workers of a loader find them.

    Args:
        entries: the file list; every line needs a mask, from which the labels are read.
        transform: a PIL image to a 3×H×W tensor.
        num_classes: C, background included.
        ignore_index: the one mask value beside the classes.
        seed: of the transform.

    A file that cannot be used gives its `UserError` as the sample: raised in a loader's worker, it
    would reach the user as a traceback. `collate` hands it on and the consumer raises it.
    """

    def __init__(
        self,
        entries: Sequence[ListEntry],
        transform: Callable[[Image.Image], Tensor],
        num_classes: int,
        ignore_index: int,
        seed: int,
    ) -> None:
        require_masks(entries, "training reads labels from it")
        self.entries = entries
        self.transform = transform
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.seed = seed
        self._labels = torch.full((len(entries), num_classes - 1), NOT_READ, dtype=torch.int8)
        self._labels.share_memory_()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | UserError:
        epoch, index = key
        entry = self.entries[index]
        try:
            image = read_image(entry.image)
            if self._labels[index, 0] == NOT_READ:
                self._labels[index] = self._read_labels(entry)
        except UserError as error:
            return error
        labels = self._labels[index].float()
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which seeds all devices that there may be
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self.transform(image), labels

    def _read_labels(self, entry: ListEntry) -> Tensor:
        mask = read_mask(entry.mask)
        self._require_classes(mask, entry)
        return torch.from_numpy(labels_of_mask(mask, self.num_classes))

    def _require_classes(self, mask: np.ndarray, entry: ListEntry) -> None:
        # a mask in another encoding would make an image without objects, and nobody would notice
        strange = strange_labels(mask, self.num_classes, self.ignore_index)
        if strange.size:
            raise UserError(
                f"mask {entry.mask} holds {', '.join(map(str, strange[:3]))}: values are classes, "
                f"0 to {self.num_classes - 1}, or {self.ignore_index}"
            )


def collate(samples: list[tuple[Tensor, Tensor] | UserError]) -> tuple[Tensor, Tensor] | UserError:
    """Stack samples to (raw images B×3×H×W, labels B×(C − 1)), or give the first error."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(labels)


class EpochSampler(Sampler[tuple[int, int]]):
    """The (epoch, index) of each sample that falls to this process; no other process has it.

    For training, samples come in an order drawn from the seed and the epoch. Of each full batch a
    process takes an equal part, so that the processes' parts make up the batch that one process
    would have; what fills no batch is left out. For validation, all samples are dealt in turn, in
    their own order.

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
        batches = order[: self.length_of_all].reshape(-1, self.processes, self.share)
        return batches[:, self.rank].reshape(-1)

    @property
    def share(self) -> int:
        """The samples that a process takes of a batch."""
        return self.batch_size // self.processes


def mix_seed(*parts: int) -> int:
    """One 32-bit seed from several non-negative whole numbers, unlike those of other numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
