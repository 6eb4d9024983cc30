"""The loop of inference: every image of a list through the network, its results to disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from core.config import TestConfig
from core.inference.predict import predict
from core.inference.results import Result, result_writer
from core.inference.samples import load_sample
from datasets.files import ListEntry

SECONDS_BETWEEN_LINES = 30.0

T = TypeVar("T")


def infer(
    model: nn.Module,
    entries: Sequence[ListEntry],
    test: TestConfig,
    folder: Path,
    palette: tuple[int, ...],
    *,
    device: torch.device,
    workers: int,
) -> None:
    """Segment the images of a list and write masks, CRF masks and pictures below `folder`.

    Args:
        model: images → (scores, masks), on `device`.
        entries: the list, its ids unique.
        test: the configuration's TEST section.
        folder: where ID.png, crf/ID.png and vis/ID.png go.
        palette: 768 values, R, G and B of each class index.
        device: where the model is.
        workers: processes for CRF and writing, 0 for none.

    Raises:
        UserError: an image or mask cannot be used, or results cannot be written.
    """
    samples = (load_sample(entry) for entry in entries)
    predictions = predict(model, samples, test, device)
    with result_writer(folder, palette, workers) as write:
        for sample, merged in _with_progress(predictions, len(entries)):
            write(Result(sample.id, np.array(sample.image), merged, sample.ground_truth))


def _with_progress(items: Iterable[T], total: int) -> Iterator[T]:
    """The same items; on stderr a bar, or a line now and then where it is no terminal."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, unit="image")
        return
    started = reported = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - reported >= SECONDS_BETWEEN_LINES or done == total:
            rate = done / (now - started)
            print(f"{done}/{total} images, {rate:.2f} images/s", file=sys.stderr, flush=True)
            reported = now
