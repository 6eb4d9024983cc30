"""The evaluation's numbers as text: the table of scores and the ranking of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.evaluation.evaluate import MISSING, UNREADABLE, WRONG_SIZE, Evaluation, ImageAgreement
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import SegmentationScores, means, means_of_lacking_groups


def format_report(evaluation: Evaluation, classes: Sequence[str]) -> str:
    """The table of scores in per cent, the two blocks of means, and how many images were left out.

    Index 0 of `classes` is background; the first block of means is over the others, the objects.
    Where a class does not occur in the ground truth, the means over those that do follow.
    """
    scores = evaluation.scores
    width = max(len(name) for name in classes)
    lines = [f"{'class':<{width}}  {'pixels':>12}  {'IoU':>6}  {'precision':>9}  {'recall':>6}"]
    for index, name in enumerate(classes):
        lines.append(
            f"{name:<{width}}  {scores.pixels[index]:>12}  {100 * scores.iou[index]:>6.2f}  "
            f"{100 * scores.precision[index]:>9.2f}  {100 * scores.recall[index]:>6.2f}"
        )
    lines += ["", f"Mean over {len(classes) - 1} objects", *_means(scores, first=1)]
    lines += ["", f"Mean over all {len(classes)}", *_means(scores, first=0)]
    lacking = [
        f"mIoU over {name} that occur ({found['classes']}): {100 * found['iou']:.2f}"
        for name, found in means_of_lacking_groups(scores).items()
    ]
    if lacking:
        lines += ["", "Classes that no ground truth has count as 0 above", *lacking]

    kinds = Counter(mask.kind for mask in evaluation.left_out)
    reasons = ", ".join(f"{kinds[kind]} {kind}" for kind in (MISSING, UNREADABLE, WRONG_SIZE))
    left_out = len(evaluation.left_out)
    total = len(evaluation.images) + left_out
    lines += ["", f"{len(evaluation.images)} of {total} images evaluated, {left_out} left out"]
    if left_out:
        lines[-1] += f" ({reasons})"
    return "\n".join(lines)


def format_ranking(evaluation: Evaluation, classes: Sequence[str]) -> str:
    """The images class by class, best TP − FN − FP first, as tab-separated lines with a header.

    A class lists the images whose ground truth has it; equal scores keep the order of the list.
    The score is in pixels, over those whose ground truth is a class.
    """
    lines = ["class\tid\tscore"]
    for index, name in enumerate(classes):
        images = ranking(evaluation, index)
        lines += [f"{name}\t{image.id}\t{image.by_class[index]}" for image in images]
    return "\n".join(lines) + "\n"


def ranking(evaluation: Evaluation, index: int) -> list[ImageAgreement]:
    """The images whose ground truth has a class, highest TP − FN − FP first, else as listed."""
    having = [image for image in evaluation.images if index in image.by_class]
    return sorted(having, key=lambda image: image.by_class[index], reverse=True)


def write_ranking(path: str | Path, evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Write `format_ranking` to `path` in one step; a `UserError` if it cannot be written."""
    try:
        write_text(path, format_ranking(evaluation, classes))
    except OSError as error:
        raise UserError(f"cannot write the scores to {path} ({error.strerror})") from error


def _means(scores: SegmentationScores, first: int) -> list[str]:
    found = means(scores, first)
    return [
        f"mIoU: {100 * found['iou']:.2f}",
        f"mean precision: {100 * found['precision']:.2f}",
        f"mean recall: {100 * found['recall']:.2f}",
    ]
