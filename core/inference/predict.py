"""From images to merged class masks: views in groups through the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from core.config import InferenceConfig
from core.inference.merging import Merger
from core.inference.samples import Sample
from core.inference.views import View, make_views
from datasets.files import labels_of_mask
from utils.errors import UserError

T = TypeVar("T")


class ViewGroup(NamedTuple):
    """Some views of a sample, and the network's input for them: B×3×(window).

    `is_whole` says that these are all of its views.
    """

    sample: Sample
    views: list[View]
    inputs: Tensor
    is_whole: bool


def predict(
    model: nn.Module, samples: Iterable[Sample], test: InferenceConfig, device: torch.device
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Predict the class masks of images.

    Views run in groups of at most TEST.BATCH_SIZE; the next group is cut in the background while
    the network works on one. The results do not depend on the groups.

    Args:
        model: images (B×3×H×W, normalised) → raw class scores (B×(C−1)) and masks (B×C×H×W).
        samples: the images; with USE_GT_LABELS all have a ground truth.
        test: the configuration's TEST section.
        device: where the model is.

    Yields:
        Each sample with its C×H×W float32 merged masks, background first: the mean over views,
        objects without label 0, background to the power BG_POW (multiscale). Their argmax is the
        segmentation.

    Raises:
        UserError: a view does not fit TEST.PAD_SIZE, or the crops do not; a group does not fit
            the GPU's memory; the network's answer is not finite.
    """
    # by default cuDNN rounds convolutions to TF32's ten bits on GPUs that can; the published masks
    # were made in float32, and pixels at the borders of objects tell the difference
    torch.backends.cudnn.allow_tf32 = False
    model.eval()
    groups = _one_ahead(_cut_groups(samples, test))
    for sample, sample_groups in groupby(groups, key=lambda group: group.sample):
        merger = Merger(sample.size)
        for group in sample_groups:
            _run(model, group, merger, test, device)
        yield sample, _finish(sample, merger, test)


def _cut_groups(samples: Iterable[Sample], test: InferenceConfig) -> Iterator[ViewGroup]:
    for sample in samples:
        views = make_views(sample.size, test, sample.id)
        for start in range(0, len(views), test.BATCH_SIZE):
            group = views[start : start + test.BATCH_SIZE]
            inputs = torch.stack([view.cut(sample.image) for view in group])
            yield ViewGroup(sample, group, inputs, is_whole=len(group) == len(views))


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in a background thread while the one before it is in use."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        item = thread.submit(next, iterator, end).result()
        while item is not end:
            following = thread.submit(next, iterator, end)
            yield item
            item = following.result()


@torch.inference_mode()
def _run(
    model: nn.Module, group: ViewGroup, merger: Merger, test: InferenceConfig, device: torch.device
) -> None:
    try:
        scores, masks = model(group.inputs.to(device))
        merger.add_scores(scores)
        # known in time, they spare the masks of absent objects the way to the image's size
        known = test.USE_GT_LABELS or group.is_whole
        labels = _labels(group.sample, merger.scores, test) if known else None
        merger.add_masks(group.views, masks, labels)
    except torch.cuda.OutOfMemoryError as error:
        count, _, height, width = group.inputs.shape
        raise UserError(
            f"the GPU's memory does not hold {count} views of {height}×{width}; lower "
            "TEST.BATCH_SIZE, which does not change the results"
        ) from error


@torch.inference_mode()
def _finish(sample: Sample, merger: Merger, test: InferenceConfig) -> np.ndarray:
    merged = merger.merged(_labels(sample, merger.scores, test))
    if test.METHOD == "multiscale":
        merged[0] **= test.BG_POW
    if not (merged.isfinite().all() and merger.scores.isfinite().all()):
        raise UserError(
            f"the network's answer to {sample.id} is not finite: the snapshot's training has "
            "diverged; choose an earlier snapshot, or train with a lower NET.LR"
        )
    return merged.cpu().numpy()


def _labels(sample: Sample, scores: Tensor, test: InferenceConfig) -> Tensor:
    """Which objects keep their masks (C−1 zeros and ones): those known, or those scored so."""
    if test.USE_GT_LABELS:
        labels = labels_of_mask(sample.ground_truth, test.NUM_CLASSES)
        return torch.from_numpy(labels).to(scores.device)
    return (scores > test.FP_CUT_SCORE).float()
