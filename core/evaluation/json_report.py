"""The evaluation's numbers for machines, as a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.evaluation.evaluate import Evaluation
from core.evaluation.report import Report
from core.evaluation.sources import MaskSource
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import MEASURES, means, means_over_occurring

FORMAT = 1
"""Of the JSON file; it grows when a reader of an earlier one would read it wrongly."""


def numbers(report: Report) -> dict[str, Any]:
    """The evaluation as plain values. Shares are in [0, 1] and not rounded.

    format: `FORMAT`.
    date: ISO 8601, with the time zone.
    dataset, list: the data set's name and the list's path, or the ground truth's folder.
    classes: the names in index order; the first is background, the others are the objects.
    run: environment.yaml's content, which infer_val.py keeps beside the masks, or null.
    evaluations: one object a source of masks:
        name: `plain` (without CRF), `crf` or `oracle`.
        source: the folder of the masks, or the oracle's grid as `128x128`.
        images: how many are `listed` and how many of them `evaluated`.
        left_out: the `kind` (missing, unreadable, wrongly sized) and a `message` of each other one.
        per_class: one object a class, in index order, with its `index` and `name`, `pixels` of
            ground truth, `iou`, `precision` and `recall`, which are 0 without a denominator.
        mean: the means of these three over the `objects` and over `all` classes.
        mean_over_occurring: the same over those that occur in the ground truth, and how many
            `classes` these are; null where none does.
        histogram: pixels, a row for each class of the ground truth and a column for each predicted
            one; a last column holds those predicted as no class.
    """
    run = report.run and report.run.environment
    return {
        "format": FORMAT,
        "date": report.date.isoformat(timespec="seconds"),
        "dataset": report.info.name,
        "list": report.filelist,
        "classes": list(report.info.classes),
        "run": run,
        "evaluations": [_numbers(*result, report) for result in report.results],
    }


def write_json(path: str | Path, report: Report) -> None:
    """Write `numbers` to `path` in one step; a `UserError` if it cannot be written."""
    # default=str: environment.yaml may hold dates, which JSON does not know
    text = json.dumps(numbers(report), indent=1, default=str)
    try:
        write_text(path, text + "\n")
    except OSError as error:
        raise UserError(f"cannot write the numbers to {path} ({error.strerror})") from error


def _numbers(source: MaskSource, evaluation: Evaluation, report: Report) -> dict[str, Any]:
    scores = evaluation.scores
    per_class = [
        {
            "index": index,
            "name": name,
            "pixels": int(scores.pixels[index]),
            **{measure: float(getattr(scores, measure)[index]) for measure in MEASURES},
        }
        for index, name in enumerate(report.info.classes)
    ]
    return {
        "name": source.name,
        "source": source.origin,
        "images": {"listed": len(report.entries), "evaluated": len(evaluation.images)},
        "left_out": [{"kind": mask.kind, "message": str(mask)} for mask in evaluation.left_out],
        "per_class": per_class,
        "mean": {"objects": means(scores, first=1), "all": means(scores, first=0)},
        "mean_over_occurring": {
            "objects": means_over_occurring(scores, first=1),
            "all": means_over_occurring(scores, first=0),
        },
        "histogram": evaluation.histogram.tolist(),
    }
