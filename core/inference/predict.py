"""From images to merged class masks: TTA views in groups through the network."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from core.config import InferenceConfig, cut_score
from core.devices import out_of_memory
from core.inference.samples import Sample
from core.inference.tta import (
    Size,
    TTAView,
    fits_windows,
    resize_views,
    show_views,
    size_text,
    tta_views,
)
from core.precision import tf32
from datasets.transforms import MeanStd
from utils.ahead import one_ahead
from utils.errors import UserError

T = TypeVar("T")
ViewGroup = tuple[tuple[int, Sample], list[TTAView], list[Tensor]]
"""A numbered sample, a group of its views, and its image resized for each (`resize_views`)."""


class Prediction(NamedTuple):
    """What the network says of a sample.

    Attributes:
        sample: as it was given.
        merged: C×H×W float32 merged masks, background first: the mean over the TTA views, 0 for
            objects without label, the background to the power TEST.BG_POW (multiscale), after which
            they do not add up to 1. Their argmax is the segmentation.
        scores: C−1 float32, each class's highest sigmoid score of all views.
    """

    sample: Sample
    merged: np.ndarray
    scores: np.ndarray


class Predictor:
    """Predicts the class masks of images.

    Views of one window run in groups of at most TEST.BATCH_SIZE. Where a window has grown beyond
    TEST.PAD_SIZE, a group has no more pixels than TEST.BATCH_SIZE windows of that size, but at
    least one view. Where a GPU's memory does not hold a group, it is halved, and all that follow,
    also in later calls, are no larger. The results do not depend on the groups.

    Args:
        model: images (B×3×H×W, normalised) → raw class scores (B×(C−1)) and masks (B×C×H×W).
        test: the configuration's TEST section.
        device: where the model is.
        mean_std: what the model's images are normalised by; ImageNet's if None.
    """

    def __init__(
        self,
        model: nn.Module,
        test: InferenceConfig,
        device: torch.device,
        mean_std: MeanStd | None = None,
    ) -> None:
        self.model = model
        self.mean_std = mean_std
        self.test = test
        self.device = device
        # of all views that run at a time
        self._budget = test.BATCH_SIZE * math.prod(test.PAD_SIZE)
        self._max_pixels: float = math.inf  # the same, finite once memory was short

    def predict(self, samples: Iterable[Sample]) -> Iterator[Prediction]:
        """Predict each sample's masks; images are resized while the network works on others.

        A sample without labels of its own has those whose score exceeds TEST.FP_CUT_SCORE.

        Raises:
            UserError: the crops do not fit TEST.PAD_SIZE; the GPU's memory does not hold a view or
                the masks; the network's answer is not finite.
        """
        self.model.eval()
        # numbered, since a sample may come twice
        pinned = self.device.type == "cuda"
        stream = one_ahead(self._inputs(enumerate(samples), pinned))
        for (_, sample), groups in groupby(stream, key=itemgetter(0)):
            yield self._predict_sample(sample, groups)

    def _inputs(
        self, samples: Iterable[tuple[int, Sample]], pinned: bool = False
    ) -> Iterator[ViewGroup]:
        """Each numbered sample with all groups of its views."""
        test = self.test
        for numbered in samples:
            _, sample = numbered
            views = tta_views(sample.size, test)
            for window, alike in groupby(views, key=attrgetter("window")):
                size = max(1, min(test.BATCH_SIZE, self._budget // math.prod(window)))
                for group in _split(list(alike), size):
                    yield numbered, group, resize_views(group, sample.image, pinned)

    def _predict_sample(self, sample: Sample, groups: Iterable[ViewGroup]) -> Prediction:
        """Predict with smaller and smaller groups, until the device's memory holds them."""
        before = self._max_pixels
        prediction = self._attempt(sample, groups)
        while prediction is None:
            # only here, where the exception is gone, do the tensors of its frames release memory
            if self.device.type != "cpu":
                getattr(torch, self.device.type).empty_cache()
            # not pinned: a GPU that is full may refuse even that
            prediction = self._attempt(sample, self._inputs([(0, sample)]))
        if self._max_pixels < before:
            window = tta_views(sample.size, self.test)[0].window
            print(
                f"the GPU's memory is short; going on with {self._max_views(window)} views of "
                f"{size_text(window)} at a time, which changes no result",
                file=sys.stderr,
            )
        return prediction

    # the published masks were made in float32, and pixels at object borders tell the difference
    @tf32(False)
    @torch.inference_mode()
    def _attempt(self, sample: Sample, groups: Iterable[ViewGroup]) -> Prediction | None:
        """The prediction; None if memory was short, and the next attempt takes smaller groups."""
        merger, waits = Merger(sample.size), self._waits(sample)
        if sample.labels is not None:
            merger.expect(self._labels(sample, merger))
        answers: list[tuple[list[TTAView], Tensor]] = []
        # the next group is fetched outside of `try`: errors in preparing it are not those of the
        # device's memory
        for _, group, resized in groups:
            window = group[0].window
            size = min(len(group), self._max_views(window))
            try:
                for views, pixels in zip(_split(group, size), _split(resized, size), strict=True):
                    # the model alone is to hold its input
                    scores, masks = self.model(
                        show_views(views, pixels, self.device, self.mean_std)
                    )
                    merger.add_scores(scores)
                    answers.append((views, masks))
                    del masks  # merged, it is to leave the memory
                    if not waits:
                        merger.add_masks(*answers.pop())
            except RuntimeError as error:
                self._halve_groups(error, sample, size, window, waits)
                return None
        try:
            return self._finish(sample, merger, answers)
        except RuntimeError as error:
            self._halve_groups(error, sample, size, window, waits)
            return None

    def _waits(self, sample: Sample) -> bool:
        """Whether masks are merged once all scores are there, which leaves out absent objects."""
        pixels = sum(math.prod(view.window) for view in tta_views(sample.size, self.test))
        return sample.labels is None and pixels <= min(self._budget, self._max_pixels)

    def _max_views(self, window: Size) -> int:
        """How many views of that size run at a time, at least one."""
        views = self._max_pixels / math.prod(window)
        return max(1, int(min(views, sys.maxsize)))

    def _halve_groups(
        self, error: RuntimeError, sample: Sample, size: int, window: Size, waits: bool
    ) -> None:
        """Halve the group of `size` that memory was short for; raise where that does not help."""
        if not out_of_memory(error):
            raise error
        if size == 1 and not waits:
            smaller = "set TEST.OVERSIZE shrink where windows exceed TEST.PAD_SIZE"
            if fits_windows(self.test):
                smaller = "lower TEST.PAD_SIZE"
            raise UserError(
                f"the GPU's memory does not hold a view of {size_text(window)} for {sample.id}, "
                f"{size_text(sample.size)}; {smaller}, or give --device cpu"
            ) from error
        # 0: one view at a time, and no masks wait for others
        self._max_pixels = size // 2 * math.prod(window)

    def _labels(self, sample: Sample, merger: Merger) -> Tensor:
        """Which objects keep their masks, C−1 zeros and ones.

        The given labels, or else the classes whose score exceeds TEST.FP_CUT_SCORE.
        """
        if sample.labels is None:
            return (merger.scores > cut_score(self.test)).float()
        return torch.from_numpy(sample.labels).to(self.device)

    def _finish(
        self, sample: Sample, merger: Merger, answers: Sequence[tuple[list[TTAView], Tensor]]
    ) -> Prediction:
        """Merge the masks that have waited, and what follows."""
        labels = self._labels(sample, merger)
        if answers:
            merger.expect(labels)
        for views, masks in answers:
            merger.add_masks(views, masks)
        merged = merger.merged(labels)
        if self.test.METHOD == "multiscale":
            merged[0] **= self.test.BG_POW
        if not (merged.isfinite().all() and merger.scores.isfinite().all()):
            cause = (
                "the snapshot's training has diverged; choose an earlier snapshot, or train with a "
                "lower NET.LR"
            )
            if self.test.AMP == "fp16":
                cause = "TEST.AMP fp16 overflows beyond 65504; set TEST.AMP bf16, or off"
            raise UserError(f"the network's answer to {sample.id} is not finite: {cause}")
        # the others are 0, and need not come from the GPU
        kept = _with_background(labels).nonzero().flatten()
        whole = np.zeros(tuple(merged.shape), dtype=np.float32)
        whole[kept.cpu().numpy()] = merged[kept].cpu().numpy()
        return Prediction(sample, whole, merger.scores.cpu().numpy())


def _split(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Merger:
    """Averages the network's outputs over an image's TTA views; flips are undone here, in `merged`.

    Views are added group by group, so that they need no memory of their own.

    Args:
        image_size: the image's height and width.
    """

    def __init__(self, image_size: Size) -> None:
        self._image_size = image_size
        self._scores: Tensor | None = None
        self._present: Tensor | None = None  # indices of the classes summed; None: all
        # of plain and of flipped views; the second sum is flipped back once, in the end
        self._sums: list[Tensor | float] = [0.0, 0.0]
        self._counts: list[Tensor | float] = [0.0, 0.0]

    def add_scores(self, scores: Tensor) -> None:
        """Take in the raw class scores of a group of views, B×(C−1)."""
        highest = scores.float().sigmoid().amax(dim=0)
        self._scores = highest if self._scores is None else torch.maximum(self._scores, highest)

    def expect(self, labels: Tensor) -> None:
        """Spend no time on the masks of objects whose `labels` (C−1) are 0.

        For labels that are known before any masks are added, and that `merged` gets too.
        """
        self._present = _with_background(labels).nonzero().flatten()

    def add_masks(self, views: Sequence[TTAView], masks: Tensor) -> None:
        """Take in the masks of a group of B views: B×C×(window)."""
        start = 0
        # neighbours that differ only in their flip are resized together
        for _, neighbours in groupby(views, key=lambda view: view.geometry):
            alike = list(neighbours)
            self._add_alike(alike, masks[start : start + len(alike)])
            start += len(alike)

    def _add_alike(self, views: list[TTAView], masks: Tensor) -> None:
        """Add views of one geometry."""
        first = views[0]
        inverted = first.invert(masks, self._image_size, self._present)
        shown: Sequence[Tensor | float] = [1.0] * len(views)  # spares resizing maps of ones
        if not first.shows_all:
            shown = first.invert(torch.ones_like(masks[:, :1]), self._image_size)
        for view, maps, count in zip(views, inverted, shown, strict=True):
            self._sums[view.flipped] += maps
            self._counts[view.flipped] += count

    @property
    def scores(self) -> Tensor:
        """The classes' highest sigmoid score of all views: C−1 values in [0, 1]."""
        if self._scores is None:
            raise ValueError("no view was added")
        return self._scores

    def merged(self, labels: Tensor) -> Tensor:
        """C×(image_size): each pixel's mean over the views that show it.

        `labels` (C−1) is zero for the objects whose masks become 0.
        """
        kept = _with_background(labels)
        mean = _unflipped_sum(self._sums) / _unflipped_sum(self._counts)
        if self._present is None:
            return mean.mul_(kept[:, None, None])
        merged = mean.new_zeros(len(kept), *self._image_size)
        merged[self._present] = mean
        return merged


def _unflipped_sum(parts: Sequence[Tensor | float]) -> Tensor | float:
    """The sum over plain views and over flipped ones, which is flipped back."""
    plain, flipped = parts
    return plain + (flipped.flip(-1) if isinstance(flipped, Tensor) else flipped)


def _with_background(labels: Tensor) -> Tensor:
    """C−1 labels as C ones and zeros: first a one for the background, which is always there."""
    return torch.cat([labels.new_ones(1), (labels > 0).to(labels.dtype)])
