"""What reads files: training samples, and the evaluation of masks."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks import straightforward_inference
from benchmarks.case import Builders, Case
from benchmarks.meters import python_peak
from benchmarks.voc_like import blobs, write_samples
from core.evaluation.evaluate import evaluate, masks_from
from datasets.files import write_mask
from datasets.labels import labels_of_list, read_mask_facts
from datasets.lists import ListEntry
from datasets.samples import ImageLevelSamples, mix_seed
from datasets.transforms import MEAN, STD, draw_crop, normalise, train_transform
from datasets.voc import PASCAL_VOC

T = TypeVar("T")
Samples = list[tuple[Tensor, Tensor]]

CROP, SCALES = 321, (0.9, 1.0)
SAMPLES, SEED, EPOCH = 32, 1, 0
MASKS, DISTINCT, LOOPED = 1449, 200, 2
"""Masks of VOC's val, how many of them differ here, and how many the pixel loop has to do."""


def loading(device: torch.device) -> Case:
    """Samples as one process with one thread loads them, normalised; an epoch after the first."""
    folder = new_folder()
    entries = write_samples(folder, SAMPLES)
    samples = training_samples(entries)

    def ours() -> Samples:
        loaded = (samples[EPOCH, index] for index in range(len(entries)))
        return [(normalise(image), labels) for image, labels in loaded]

    return Case(
        f"loading {SAMPLES} training samples, one core",
        baseline=on_one_thread(lambda: pillow_samples(entries)),
        ours=on_one_thread(ours),
        tolerance=2e-3,
        target=1.5,
        difference=share_beyond_rounding,
    )


def evaluation(device: torch.device) -> Case:
    folder = new_folder()
    entries = write_masks(folder)
    looped = entries[:LOOPED]

    def counted(entries: list[ListEntry]) -> np.ndarray:
        histogram = evaluate(entries, masks_from(folder, PASCAL_VOC), PASCAL_VOC).histogram
        return histogram[:, : PASCAL_VOC.num_classes]

    def baseline() -> np.ndarray:
        return sum(
            straightforward_inference.confusion_matrix(
                np.array(Image.open(entry.mask)), np.array(Image.open(folder / f"{entry.id}.png"))
            )
            for entry in looped
        )

    return Case(
        f"evaluation of {MASKS:,} masks (the loop over pixels on {LOOPED}, scaled)",
        baseline=baseline,
        ours=lambda: counted(entries),
        tolerance=0,
        target=50,
        check=(baseline, lambda: counted(looped)),
        baseline_scale=MASKS / LOOPED,
        meter=python_peak,
    )


def new_folder() -> Path:
    """A folder that is there until Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_masks(folder: Path) -> list[ListEntry]:
    """Predictions ID.png, and a list of as many entries as VOC's val has, with ground truth."""
    for number in range(DISTINCT):
        mask = blobs(number)
        write_mask(folder / f"{number}_truth.png", mask, PASCAL_VOC.palette)
        # an ambiguous prediction would be no class
        prediction = np.where(mask < PASCAL_VOC.num_classes, mask, 0)
        prediction = np.roll(prediction, (5, 9), axis=(0, 1))
        write_mask(folder / f"{number}.png", prediction, PASCAL_VOC.palette)
    numbers = [number % DISTINCT for number in range(MASKS)]
    return [ListEntry(folder / f"{n}.jpg", folder / f"{n}_truth.png") for n in numbers]


def training_samples(entries: list[ListEntry]) -> ImageLevelSamples:
    """Samples whose labels are read, of whatever size the list is."""
    samples = ImageLevelSamples(entries, train_transform(CROP, *SCALES), SEED)
    facts = [read_mask_facts(entry) for entry in entries]
    samples.labels = labels_of_list("the list", entries, facts, PASCAL_VOC)
    return samples


def pillow_samples(entries: list[ListEntry]) -> Samples:
    """Normalised images and labels as torchvision's transforms of Pillow images give them.

    The random numbers are those of `training_samples`.
    """
    transform = transforms.Compose(
        [
            pillow_crop,
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.3, 0.3, 0.3, 0.1),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    samples = []
    for index, entry in enumerate(entries):
        torch.manual_seed(mix_seed(SEED, EPOCH, index))
        image = transform(Image.open(entry.image).convert("RGB"))
        labels = torch.zeros(PASCAL_VOC.num_classes - 1)
        for value in np.unique(np.array(Image.open(entry.mask))):
            if 0 < value < PASCAL_VOC.num_classes:
                labels[value - 1] = 1
        samples.append((image, labels))
    return samples


def pillow_crop(image: Image.Image) -> Image.Image:
    """The crop that training would draw, cut out and resized by Pillow."""
    top, left, height, width = draw_crop((image.height, image.width), SCALES)
    part = image.crop((left, top, left + width, top + height))
    return part.resize((CROP, CROP), Image.Resampling.BICUBIC)


def share_beyond_rounding(found: Samples, expected: Samples) -> float:
    """The share of an image's values that differ by more than two grey levels.

    It is 1 where labels differ.
    """
    shares = []
    for (image, labels), (other, other_labels) in zip(found, expected, strict=True):
        levels = 255 * (image - other).abs() * torch.tensor(STD)[:, None, None]
        same = torch.equal(labels, other_labels)
        shares.append(float((levels > 2.5).float().mean()) if same else 1.0)
    return max(shares)


def on_one_thread(call: Callable[[], T]) -> Callable[[], T]:
    """The call, with one of PyTorch's threads, as in a loader's worker."""

    def limited() -> T:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(before)

    return limited


CPU_CASES: Builders = {"loading": loading, "evaluation": evaluation}
