"""From images to merged class masks: views in groups through the network."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.config import InferenceConfig
from core.devices import out_of_memory
from core.inference.samples import Sample
from core.inference.tta import Size, View, cut_views, size_text, tta_views
from core.precision import tf32
from utils.ahead import one_ahead
from utils.errors import UserError


class Merger:
    """Merges the outputs of an image's views one by one, so that views need no room of their own.

    Args:
        image_size: the image's height and width.
    """

    def __init__(self, image_size: Size) -> None:
        self._image_size = image_size
        self._scores: Tensor | None = None
        self._present: Tensor | None = None  # indices of the classes summed; None: all
        # of plain and of flipped views, which are flipped back together in the end
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
        self._present = _background_and(labels).nonzero().flatten()

    def add_masks(self, views: Sequence[View], masks: Tensor) -> None:
        """Take in the masks of a group of B views: B×C×(window)."""
        # a view and its flipped one go back to the image's size together
        start = 0
        for _, group in groupby(views, key=lambda view: view.frame):
            alike = list(group)
            self._add_alike(alike, masks[start : start + len(alike)])
            start += len(alike)

    def _add_alike(self, views: list[View], masks: Tensor) -> None:
        """Add views of one frame."""
        first = views[0]
        undone = first.undo(masks, self._image_size, self._present)
        shown: Sequence[Tensor | float] = [1.0] * len(views)  # spares resizing maps of ones
        if not first.shows_all:
            shown = first.undo(torch.ones_like(masks[:, :1]), self._image_size)
        for view, maps, count in zip(views, undone, shown, strict=True):
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
        kept = _background_and(labels)
        mean = _joined(self._sums) / _joined(self._counts)
        if self._present is None:
            return mean.mul_(kept[:, None, None])
        merged = mean.new_zeros(len(kept), *self._image_size)
        merged[self._present] = mean
        return merged


def _joined(parts: Sequence[Tensor | float]) -> Tensor | float:
    """The sum of what is plain and what is flipped."""
    plain, flipped = parts
    return plain + (flipped.flip(-1) if isinstance(flipped, Tensor) else flipped)


def _background_and(labels: Tensor) -> Tensor:
    """C−1 labels as C ones and zeros, the background's, which is always there, first."""
    return torch.cat([labels.new_ones(1), (labels > 0).to(labels.dtype)])


class Prediction(NamedTuple):
    """What the network says of a sample.

    Attributes:
        sample: as it was given.
        merged: C×H×W float32 merged masks, background first.
        scores: C−1 float32, each class's highest sigmoid score of all views.
    """

    sample: Sample
    merged: np.ndarray
    scores: np.ndarray


class ViewGroup(NamedTuple):
    """Some views of a sample, and the network's input for them: B×3×(window).

    `number` is the sample's in the stream; `is_whole` says that these are all of its views.
    """

    number: int
    sample: Sample
    views: list[View]
    inputs: Tensor
    is_whole: bool


@dataclass
class Room:
    """What the device was found to have memory for.

    Attributes:
        pixels: how many of all views together run through the network at a time.
    """

    pixels: float = math.inf

    def holds(self, group: ViewGroup) -> int:
        """How many of a group's views run at a time, at least one."""
        views = self.pixels / math.prod(group.views[0].window)
        return max(1, int(min(len(group.views), views)))


def predict(
    model: nn.Module,
    samples: Iterable[Sample],
    test: InferenceConfig,
    device: torch.device,
    room: Room | None = None,
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Each sample with its merged masks: `predict_with_scores` without the scores."""
    for sample, merged, _ in predict_with_scores(model, samples, test, device, room):
        yield sample, merged


def predict_with_scores(
    model: nn.Module,
    samples: Iterable[Sample],
    test: InferenceConfig,
    device: torch.device,
    room: Room | None = None,
) -> Iterator[Prediction]:
    """Predict the class masks of images.

    Views run in groups of at most TEST.BATCH_SIZE, or where a window has grown beyond
    TEST.PAD_SIZE, of as many as have no more pixels than that, but at least one; the next group is
    cut in the background while the network works on one. Where a GPU's memory does not hold a
    group, it is halved, and all that follow are no larger. The results do not depend on the groups.

    Args:
        model: images (B×3×H×W, normalised) → raw class scores (B×(C−1)) and masks (B×C×H×W).
        samples: the images; with USE_GT_LABELS all have labels.
        test: the configuration's TEST section.
        device: where the model is.
        room: what earlier calls have found out about the device's memory, and this one may.

    Yields:
        Each sample with its merged masks: the mean over views, objects without label 0, background
        to the power BG_POW (multiscale), after which they do not add up to 1. Their argmax is the
        segmentation. A sample without labels of its own has those whose score exceeds FP_CUT_SCORE.

    Raises:
        UserError: the crops do not fit TEST.PAD_SIZE; a sample lacks labels; the GPU's memory does
            not hold a view or the masks; the network's answer is not finite.
    """
    room = room or Room()
    model.eval()
    groups = one_ahead(_cut_groups(samples, test, pinned=device.type == "cuda"))
    pairs = groupby(groups, key=lambda group: (group.number, group.sample))
    for (_, sample), sample_groups in pairs:
        yield _predict_sample(model, sample, sample_groups, test, device, room)


def _cut_groups(
    samples: Iterable[Sample], test: InferenceConfig, pinned: bool
) -> Iterator[ViewGroup]:
    for number, sample in enumerate(samples):
        if test.USE_GT_LABELS and sample.labels is None:
            raise UserError(
                f"{sample.id} comes without labels, which TEST.USE_GT_LABELS asks for; give them, "
                "or set TEST.USE_GT_LABELS False"
            )
        views = tta_views(sample.size, test)
        pixels, budget = math.prod(views[0].window), test.BATCH_SIZE * math.prod(test.PAD_SIZE)
        size = max(1, min(test.BATCH_SIZE, budget // pixels))
        for start in range(0, len(views), size):
            group = views[start : start + size]
            inputs = cut_views(group, sample.image, pinned)
            yield ViewGroup(number, sample, group, inputs, is_whole=len(group) == len(views))


def _predict_sample(
    model: nn.Module,
    sample: Sample,
    groups: Iterable[ViewGroup],
    test: InferenceConfig,
    device: torch.device,
    room: Room,
) -> Prediction:
    before = room.pixels
    prediction = _attempt(model, sample, groups, test, device, room)
    while prediction is None:
        # only here, where the exception is gone, do the tensors of its frames let go of memory
        if device.type != "cpu":
            getattr(torch, device.type).empty_cache()
        groups = _cut_groups([sample], test, pinned=False)
        prediction = _attempt(model, sample, groups, test, device, room)
    if room.pixels < before:
        window = tta_views(sample.size, test)[0].window
        views = int(room.pixels // math.prod(window))
        print(
            f"the GPU's memory is short; going on with {views} views of {size_text(window)} at a "
            "time, which changes no result",
            file=sys.stderr,
        )
    return prediction


# the published masks were made in float32, and pixels at the borders of objects tell the difference
@tf32(False)
@torch.inference_mode()
def _attempt(
    model: nn.Module,
    sample: Sample,
    groups: Iterable[ViewGroup],
    test: InferenceConfig,
    device: torch.device,
    room: Room,
) -> Prediction | None:
    """The sample's prediction; None if memory was short, and now there is less `room`."""
    merger, largest = Merger(sample.size), 1
    # the next group is fetched outside of `try`: errors of its making are none of the device's
    for group in groups:
        size = room.holds(group)
        largest = max(largest, size)
        try:
            for part in _split(group, size):
                _run(model, part, merger, test, device)
        except RuntimeError as error:
            _make_room(error, sample, largest, test, room)
            return None
    try:
        return _finish(sample, merger, test)
    except RuntimeError as error:
        _make_room(error, sample, largest, test, room)
        return None


def _make_room(
    error: RuntimeError, sample: Sample, largest: int, test: InferenceConfig, room: Room
) -> None:
    """Halve the group of views that memory was short for; raise where that is not to be mended."""
    if not out_of_memory(error):
        raise error
    window = tta_views(sample.size, test)[0].window
    if largest > 1:
        room.pixels = largest // 2 * math.prod(window)
        return
    raise UserError(
        f"the GPU's memory does not hold a view of {size_text(window)} and the masks of "
        f"{test.NUM_CLASSES} classes for {sample.id}, {size_text(sample.size)}; set "
        "TEST.OVERSIZE shrink where windows have grown beyond TEST.PAD_SIZE, or give "
        "--device cpu"
    ) from error


def _split(group: ViewGroup, size: int) -> Iterator[ViewGroup]:
    """A group's views in turn, `size` of them at a time."""
    if size >= len(group.views):
        yield group
        return
    for start in range(0, len(group.views), size):
        part = slice(start, start + size)
        yield group._replace(views=group.views[part], inputs=group.inputs[part], is_whole=False)


def _run(
    model: nn.Module, group: ViewGroup, merger: Merger, test: InferenceConfig, device: torch.device
) -> None:
    scores, masks = model(group.inputs.to(device, non_blocking=True))
    merger.add_scores(scores)
    # known in time, they spare the masks of absent objects the way to the image's size
    if group.sample.labels is not None or group.is_whole:
        merger.expect(_labels(group.sample, merger.scores, test))
    merger.add_masks(group.views, masks)


def _finish(sample: Sample, merger: Merger, test: InferenceConfig) -> Prediction:
    merged = merger.merged(_labels(sample, merger.scores, test))
    if test.METHOD == "multiscale":
        merged[0] **= test.BG_POW
    if not (merged.isfinite().all() and merger.scores.isfinite().all()):
        if test.AMP == "fp16":
            raise UserError(
                f"the network's answer to {sample.id} is not finite: TEST.AMP fp16 overflows "
                "beyond 65504; set TEST.AMP bf16, or off"
            )
        raise UserError(
            f"the network's answer to {sample.id} is not finite: the snapshot's training has "
            "diverged; choose an earlier snapshot, or train with a lower NET.LR"
        )
    return Prediction(sample, merged.cpu().numpy(), merger.scores.cpu().numpy())


def _labels(sample: Sample, scores: Tensor, test: InferenceConfig) -> Tensor:
    """Which objects keep their masks (C−1 zeros and ones): those known, or those scored so."""
    if sample.labels is None:
        return (scores > test.FP_CUT_SCORE).float()
    return torch.from_numpy(sample.labels).to(scores.device)
