"""Labels are read once before training, by all processes together."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import core.training.data
from core.config import load_config
from core.distributed import SINGLE, Group
from core.training.data import (
    Batches,
    list_names,
    read_labels,
    training_batches,
    validation_batches,
)
from datasets.labels import read_mask_facts
from datasets.lists import ListEntry, read_list
from datasets.samples import ImageLevelSamples
from datasets.transforms import val_transform
from datasets.voc import PASCAL_VOC
from utils.errors import UserError
from utils.signals import StoppedError, StopRequest

CPU = torch.device("cpu")


@pytest.fixture
def entries(tmp_path):
    """Ten 8×12 images; image i has object i + 1."""
    found = []
    for index in range(10):
        entry = ListEntry(tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png")
        mask = np.full((8, 12), index + 1, np.uint8)
        Image.fromarray(np.full((8, 12, 3), 20 * index, np.uint8)).save(entry.image)
        Image.fromarray(mask).save(entry.mask)
        found.append(entry)
    return found


def samples_of(entries, seed=0) -> ImageLevelSamples:
    return ImageLevelSamples(entries, val_transform(8, torch.uint8), seed)


class TogetherGroup(Group):
    """A process of a group whose others have said already what they gather."""

    said: list

    def gather(self, value):
        parts = list(self.said)
        parts[self.rank] = value
        return parts


def test_every_list_has_its_labels_and_the_table_is_printed(entries, capsys):
    training, validation = samples_of(entries), samples_of(entries[4:6])
    read_labels([("a.txt", training), ("b.txt", validation)], PASCAL_VOC, SINGLE)
    assert training.labels.tolist() == np.eye(20)[:10].tolist()
    assert validation.labels.tolist() == np.eye(20)[4:6].tolist()
    captured = capsys.readouterr()
    [row] = [line for line in captured.out.splitlines() if line.startswith("bottle")]
    assert row.split() == ["bottle", "1", "1"]
    # of no image: ten, of which the first are named
    assert captured.err.startswith("warning: ") and "diningtable" in captured.err


def test_processes_read_a_share_each(entries, tmp_path, capsys):
    def part(rank: int, said: list) -> np.ndarray:
        group = TogetherGroup(rank, 2)
        object.__setattr__(group, "said", said)
        samples = samples_of(entries)
        read_labels([("a.txt", samples)], PASCAL_VOC, group)
        return samples.labels

    from core.training.data import _read

    shares = [_read(entries[rank::2], shows=False) for rank in range(2)]
    # each has no need of the masks that the other reads
    for rank in range(2):
        kept = {entry.mask: entry.mask.read_bytes() for entry in entries[1 - rank :: 2]}
        for path in kept:
            path.unlink()
        assert part(rank, shares).tolist() == np.eye(20)[:10].tolist()
        for path, content in kept.items():
            path.write_bytes(content)
    # what one cannot read is an error of both
    with pytest.raises(UserError, match="9_mask"):
        part(0, [None, UserError("mask 9_mask cannot be read")])
    entries[0].mask.write_bytes(b"")
    with pytest.raises(UserError, match="0_mask"):
        part(0, [None, shares[1]])


def test_a_signal_ends_reading_in_all_processes(entries, monkeypatch):
    stop = StopRequest()

    def reads(entry):
        stop.signal = signal.SIGTERM
        return read_mask_facts(entry)

    monkeypatch.setattr(core.training.data, "read_mask_facts", reads)
    monkeypatch.setattr(core.training.data, "MAX_THREADS", 1)
    with pytest.raises(StoppedError):
        read_labels([("a.txt", samples_of(100 * entries))], PASCAL_VOC, SINGLE, stop)
    group = TogetherGroup(0, 2)
    object.__setattr__(group, "said", [None, StoppedError()])
    with pytest.raises(StoppedError):
        read_labels([("a.txt", samples_of(entries))], PASCAL_VOC, group)


def batches_of(samples: ImageLevelSamples, workers: int) -> list[tuple[Tensor, Tensor]]:
    return list(Batches(samples, 4, workers, CPU, SINGLE, training=True).epoch(3))


def test_batches_do_not_depend_on_the_number_of_workers(entries):
    samples = samples_of(entries, seed=5)
    read_labels([("a.txt", samples)], PASCAL_VOC, SINGLE)
    for entry in entries:
        entry.mask.unlink()  # they were read once for all
    expected = batches_of(samples, 0)
    assert [(raw.dtype, raw.shape) for raw, _ in expected] == [(torch.float32, (4, 3, 8, 8))] * 2
    for workers in (1, 3):
        for batch, other in zip(expected, batches_of(samples, workers), strict=True):
            assert all(map(torch.equal, batch, other))
    # whose image it is tells its brightness, and so do the labels
    raw, labels = expected[0]
    assert torch.equal((raw[:, 0, 0, 0] * 255 / 20).round(), labels.argmax(dim=1).float())
    validation = Batches(samples, 4, 1, CPU, SINGLE, training=False)
    assert [len(labels) for _, labels in validation.epoch(0)] == [4, 4, 2] and len(validation) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_used_is_named(entries, workers):
    samples = samples_of(entries)
    read_labels([("a.txt", samples)], PASCAL_VOC, SINGLE)
    entries[2].image.write_bytes(entries[2].image.read_bytes()[:50])
    with pytest.raises(UserError, match=r"2\.png"):
        list(Batches(samples, 10, workers, CPU, SINGLE, training=False).epoch(0))


class ShortOfMemory:
    def __call__(self, image):
        raise MemoryError


@pytest.mark.parametrize(
    ("workers", "remedy"),
    [(0, r"lower TRAIN\.BATCH_SIZE or DATASET\.CROP_SIZE"), (1, r"lower TRAIN\.NUM_WORKERS")],
)
def test_short_memory_ends_in_one_line(entries, workers, remedy):
    samples = ImageLevelSamples(entries, ShortOfMemory(), 0)
    read_labels([("a.txt", samples)], PASCAL_VOC, SINGLE)
    with pytest.raises(UserError, match=f"memory is short .*; {remedy}"):
        batches_of(samples, workers)


def test_batches_for_a_gpu_are_pinned(entries, monkeypatch):
    samples = samples_of(entries)
    read_labels([("a.txt", samples)], PASCAL_VOC, SINGLE)
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batches = Batches(samples, 5, 1, torch.device("cuda"), SINGLE, training=True)
    found = [tensor for batch in batches.epoch(0) for tensor in batch]
    assert len(found) == 4 and all(map(torch.equal, found, pinned))


def test_lists_of_the_data_set(mini_voc, capsys):
    """Images of VOC's are taken as they are stored."""
    config = load_config(None, ["DATASET.PATH", str(mini_voc), "TRAIN.BATCH_SIZE", "10"])
    training = training_batches(config, PASCAL_VOC, 0, CPU, SINGLE)
    entries = training.samples.entries
    validation = validation_batches(config, PASCAL_VOC, entries, CPU, SINGLE)
    lists = [training.samples, *(batches.samples for batches in validation.values())]
    assert not any(entry.exif for samples in lists for entry in samples.entries)
    names = [PASCAL_VOC.train_list, *list_names(PASCAL_VOC).values()]
    read_labels(list(zip(names, lists, strict=True)), PASCAL_VOC, SINGLE)
    listed = read_list(mini_voc / names[0], mini_voc)
    first = np.unique(np.array(Image.open(listed[0].mask)))
    expected = [value - 1 for value in first.tolist() if 0 < value < 21]
    assert np.flatnonzero(training.samples.labels[0]).tolist() == expected
