"""The loop of inference: every image of a list through the network, its results to disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.config import InferenceConfig
from core.inference.predict import predict
from core.inference.results import Result, result_writer
from core.inference.samples import load_sample
from datasets.files import ListEntry
from utils.progress import track

LINES_IN_A_LOG = 20


def infer(
    model: nn.Module,
    entries: Sequence[ListEntry],
    test: InferenceConfig,
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
    # by default cuDNN rounds convolutions to TF32's ten bits on GPUs that can; the published masks
    # were made in float32, and pixels at the borders of objects tell the difference
    torch.backends.cudnn.allow_tf32 = False
    samples = (load_sample(entry) for entry in entries)
    predictions = predict(model, samples, test, device)
    every = max(1, len(entries) // LINES_IN_A_LOG)
    with result_writer(folder, palette, workers) as write:
        for sample, merged in track(predictions, len(entries), "image", "inference", every):
            write(Result(sample.id, np.array(sample.image), merged, sample.ground_truth))
