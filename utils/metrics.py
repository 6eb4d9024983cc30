"""Segmentation scores from histograms of label pairs, and average precision of image labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MEASURES = ("iou", "precision", "recall")


@dataclass(frozen=True)
class SegmentationScores:
    """Per-class scores of a segmentation, each an array of num_classes values.

    Attributes:
        pixels: ground-truth pixels of the class, int64.
        iou: TP / (TP + FN + FP), in [0, 1].
        precision: TP / (TP + FP), in [0, 1].
        recall: TP / (TP + FN), in [0, 1].

    A ratio without a denominator counts as 0.
    """

    pixels: np.ndarray
    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def joint_histogram(
    ground_truth: np.ndarray, prediction: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the pixels of every (ground truth, prediction) pair, "no class" included.

    Pixels whose ground truth is num_classes or more are left out. Predictions of num_classes or
    more are no class: they share one further column, so that they miss the ground truth's class
    and raise nobody's false alarms. Histograms of several images add up.

    Args:
        ground_truth: class indices, integers of any shape.
        prediction: class indices, integers of the same shape.
        num_classes: number of classes, background included.

    Returns:
        num_classes × (num_classes + 1) int64 counts; rows are ground truth, the last column is
        "no class".

    Raises:
        ValueError: the shapes differ, or the values are not non-negative integers.
    """
    if ground_truth.shape != prediction.shape:
        raise ValueError(f"shapes differ: {ground_truth.shape} and {prediction.shape}")
    for labels in (ground_truth, prediction):
        if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            raise ValueError("labels must be non-negative integers")

    width = num_classes + 1
    counts = np.zeros(num_classes * width + width, dtype=np.int64)
    pairs = _limited(ground_truth, num_classes).astype(np.min_scalar_type(counts.size)).ravel()
    pairs *= width
    pairs += _limited(prediction, num_classes).astype(pairs.dtype).ravel()
    if pairs.size:
        # counted run by run, for equal pairs lie side by side in masks
        ends = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]), pairs.size - 1)
        np.add.at(counts, pairs[ends], np.diff(ends, prepend=-1))
    return counts.reshape(width, width)[:num_classes]


def confusion_matrix(
    ground_truth: np.ndarray, prediction: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the pixels of every (ground truth, prediction) pair of classes.

    The square part of `joint_histogram`, whose arguments and errors it shares: pixels predicted as
    no class are not in it, so its row sums are no recall's denominators where there are such.

    Returns:
        num_classes × num_classes int64 counts; row = ground truth, column = prediction.
    """
    return joint_histogram(ground_truth, prediction, num_classes)[:, :num_classes]


def segmentation_scores(histogram: np.ndarray) -> SegmentationScores:
    """Scores of each class from a K × (K + 1) `joint_histogram`."""
    true_positives, pixels, predicted = _marginals(histogram)
    return SegmentationScores(
        pixels=pixels,
        iou=_ratio(true_positives, pixels + predicted - true_positives),
        precision=_ratio(true_positives, predicted),
        recall=_ratio(true_positives, pixels),
    )


def class_agreement(histogram: np.ndarray) -> np.ndarray:
    """TP − FN − FP of each class in pixels (K int64), from a K × (K + 1) `joint_histogram`."""
    true_positives, pixels, predicted = _marginals(histogram)
    return 3 * true_positives - pixels - predicted


def average_precision(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Average precision of image labels.

    Args:
        targets: N×K, 1 (or True) where the image has the class, else 0.
        scores: N×K finite scores, higher meaning more likely.

    Returns:
        AP of each class in [0, 1], K float64 with NaN for a class that no image has; and the mean
        over the others, NaN if there are none.

    Raises:
        ValueError: the shapes are not one N×K, or a score is not finite.
    """
    # scikit-learn takes more than a second to import, and evaluating masks does without it
    from sklearn.metrics import average_precision_score

    if targets.ndim != 2 or targets.shape != scores.shape:
        raise ValueError(f"expected one shape N×K, got {targets.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")

    precision = np.full(targets.shape[1], np.nan)
    present = np.flatnonzero((targets > 0).any(axis=0))
    for index in present:
        precision[index] = average_precision_score(targets[:, index] > 0, scores[:, index])
    mean = float(precision[present].mean()) if present.size else float("nan")
    return precision, mean


def best_threshold(targets: np.ndarray, scores: np.ndarray) -> float:
    """The threshold above which scores agree best with image labels.

    It is the one, of whole per cents, that maximises the mean F1 over the classes that occur; of
    neighbours that do equally well the middle one.

    Args:
        targets: N×K, 1 (or True) where the image has the class, else 0.
        scores: N×K in [0, 1].

    Returns:
        The threshold in (0, 1); NaN if no image has a class.
    """
    has = targets > 0
    occurs = has.any(axis=0)
    if not occurs.any():
        return float("nan")
    has, scores = has[:, occurs], scores[:, occurs]
    thresholds = np.arange(1, 100) / 100
    means = np.empty(len(thresholds))
    for number, threshold in enumerate(thresholds):
        found = scores > threshold
        both = (found & has).sum(axis=0)
        means[number] = np.mean(2 * both / (found.sum(axis=0) + has.sum(axis=0)))
    best = np.flatnonzero(means == means.max())
    # of several runs of neighbours the longest: what lies within it is the least delicate
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(runs, key=len)
    return float(thresholds[longest[(len(longest) - 1) // 2]])


def means(scores: SegmentationScores, first: int) -> dict[str, float]:
    """The means of IoU, precision and recall, in [0, 1], over the classes from index `first`."""
    return {measure: float(getattr(scores, measure)[first:].mean()) for measure in MEASURES}


def means_over_occurring(scores: SegmentationScores, first: int) -> dict[str, float] | None:
    """`means` over those of the classes that occur in the ground truth, and their number `classes`.

    A class that does not occur counts as 0 in `means`, as in the published code, whatever the
    masks are. None where no class from index `first` occurs.
    """
    occurs = scores.pixels[first:] > 0
    if not occurs.any():
        return None
    chosen = {measure: getattr(scores, measure)[first:][occurs] for measure in MEASURES}
    return {
        "classes": int(occurs.sum()),
        **{measure: float(values.mean()) for measure, values in chosen.items()},
    }


def means_of_lacking_groups(scores: SegmentationScores) -> dict[str, dict[str, float]]:
    """`means_over_occurring` of the "objects" and of all "classes", where some do not occur."""
    groups = {}
    for name, first in (("objects", 1), ("classes", 0)):
        found = means_over_occurring(scores, first)
        if found and found["classes"] < len(scores.pixels) - first:
            groups[name] = found
    return groups


def _limited(labels: np.ndarray, most: int) -> np.ndarray:
    """Labels with those above `most` as `most`, in their own type."""
    return np.minimum(labels, min(most, np.iinfo(labels.dtype).max))


def _marginals(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, ground-truth pixels and predicted pixels of each class."""
    classes = len(histogram)
    if histogram.shape != (classes, classes + 1):
        raise ValueError(f"expected a K × (K + 1) histogram, got {histogram.shape}")
    return np.diagonal(histogram), histogram.sum(axis=1), histogram[:, :classes].sum(axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    zeros = np.zeros(len(numerator), dtype=np.float64)
    return np.divide(numerator, denominator, out=zeros, where=denominator > 0)
