"""The loop of inference: what the network says of every image, to disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from core.inference.results import Result, result_writer
from core.inference.samples import Sample
from utils.progress import track

LINES_IN_A_LOG = 20


def infer(
    predictions: Iterable[tuple[Sample, np.ndarray]],
    count: int,
    folder: Path,
    palette: tuple[int, ...],
    *,
    workers: int,
) -> None:
    """Write masks, CRF masks and pictures of the images below `folder`.

    Args:
        predictions: each image with its C×H×W float32 merged masks, made while this loop asks.
        count: how many there are.
        folder: where ID.png, crf/ID.png and vis/ID.png go.
        palette: 768 values, R, G and B of each class index.
        workers: processes for CRF and writing, 0 for none.

    Raises:
        UserError: an image or mask cannot be used, or results cannot be written.
    """
    every = max(1, count // LINES_IN_A_LOG)
    with result_writer(folder, palette, workers) as write:
        for sample, merged in track(predictions, count, "image", "inference", every):
            write(Result(sample.id, np.array(sample.image), merged, sample.ground_truth))
