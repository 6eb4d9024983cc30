"""The report of an evaluation: one HTML file that opens from disk and needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.evaluation.html import render
from core.evaluation.html.examples import best_and_worst, draw_examples
from core.evaluation.report import Outcome, RunRecord
from core.evaluation.sources import Evaluated
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import MEASURES, means, means_of_lacking_groups

PAGE = "index.html"
MEASURE_TITLES = ("IoU", "precision", "recall")
NO_CLASS = "no class"
SHOWN = 3
"""Images of each kind, best and worst, a class."""


def write_page(folder: str | Path, outcome: Outcome) -> Path:
    """Write FOLDER/index.html, styles, scripts and pictures inside, in one step.

    Raises:
        UserError: it cannot be written, or an image that it shows cannot be read.
    """
    path = Path(folder) / PAGE
    text = build_page(outcome)
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write the report to {path} ({error.strerror})") from error
    return path


def build_page(outcome: Outcome) -> str:
    """The page as HTML. It reads the images that it shows, and no others."""
    evaluated, info = outcome.evaluated, outcome.info
    classes = _classes(outcome)
    shown = {image.id for each in classes for image in (*each["best"], *each["worst"])}
    evaluated_ids = [[image.id for image in each.evaluation.images] for each in evaluated]
    return render(
        "report.html.j2",
        filelist=outcome.filelist,
        about=_about(outcome),
        listed=len(outcome.entries),
        comparable=all(ids == evaluated_ids[0] for ids in evaluated_ids),
        variants=[_variant(each, info.classes) for each in evaluated],
        measures=MEASURE_TITLES,
        means=_means(evaluated, info.num_classes),
        classes=classes,
        columns=[
            ("pixels", len(classes[0]["pixels"])),
            *((title, len(evaluated)) for title in MEASURE_TITLES),
        ],
        ignored=_colour(info, info.ignore_index),
        shown=SHOWN,
        examples=draw_examples(
            [entry for entry in outcome.entries if entry.id in shown],
            [each.variant.predict for each in evaluated],
            info,
        ),
        run=_run(outcome.run) if outcome.run else None,
    )


def _about(outcome: Outcome) -> dict[str, str]:
    counts = dict.fromkeys(len(each.evaluation.images) for each in outcome.evaluated)
    images = " and ".join(f"{count:,}" for count in counts)
    return {
        "data set": outcome.info.name,
        "list": outcome.filelist,
        "images": f"{images} of {len(outcome.entries):,} evaluated",
        **{each.variant.title: each.variant.source for each in outcome.evaluated},
        **({"with CRF": outcome.lack_of_crf} if outcome.lack_of_crf else {}),
        "date": f"{outcome.date:%Y-%m-%d %H:%M %z}",
    }


def _variant(evaluated: Evaluated, classes: Sequence[str]) -> dict[str, Any]:
    """A variant's names, its mean IoU, what was left out and its confusion matrix.

    The matrix has a column for pixels predicted as no class only if there are any.
    """
    histogram = evaluated.evaluation.histogram
    columns = [*classes, NO_CLASS] if histogram[:, -1].any() else list(classes)
    return {
        "name": evaluated.variant.name,
        "title": evaluated.variant.title,
        "miou": means(evaluated.scores, 0)["iou"],
        "left_out": [str(mask) for mask in evaluated.evaluation.left_out],
        "columns": columns,
        "rows": [
            {"name": name, "total": sum(counts), "counts": counts[: len(columns)]}
            for name, counts in zip(classes, histogram.tolist(), strict=True)
        ],
    }


def _means(evaluated: Sequence[Evaluated], num_classes: int) -> list[dict[str, Any]]:
    """The table's rows: each variant's means over the objects, and over all classes.

    Where some of these do not occur in the ground truth, a row each for those that do.
    """
    rows = []
    for each in evaluated:
        groups = {
            f"{num_classes - 1} objects": means(each.scores, first=1),
            f"all {num_classes}": means(each.scores, first=0),
        }
        for name, found in means_of_lacking_groups(each.scores).items():
            groups[f"{name} that occur ({found['classes']})"] = found
        for order, (title, found) in enumerate(groups.items()):
            shares = [found[measure] for measure in MEASURES]
            rows.append({"variant": each.variant, "over": title, "order": order, "shares": shares})
    return rows


def _classes(outcome: Outcome) -> list[dict[str, Any]]:
    """Each class's numbers, and its best and worst images in the first variant.

    Pixels of the ground truth are the same for all variants, and given once, unless different
    images were left out.
    """
    images = outcome.evaluated[0].evaluation.images
    scores = [each.scores for each in outcome.evaluated]
    pixels = [score.pixels for score in scores]
    if all((counts == pixels[0]).all() for counts in pixels):
        pixels = pixels[:1]
    classes = []
    for index, name in enumerate(outcome.info.classes):
        best, worst = best_and_worst(outcome.evaluated[0].evaluation, index, SHOWN)
        classes.append(
            {
                "index": index,
                "name": name,
                "colour": _colour(outcome.info, index),
                "pixels": [int(counts[index]) for counts in pixels],
                "measures": [
                    [float(getattr(score, measure)[index]) for score in scores]
                    for measure in MEASURES
                ],
                "images": sum(index in image.by_class for image in images),
                "best": best,
                "worst": worst,
            }
        )
    return classes


def _run(run: RunRecord) -> dict[str, Any]:
    facts = None if run.environment is None else dict(run.environment)
    if facts is not None and run.changed is not None:
        facts["changes"] = "diff.patch holds those since the commit" if run.changed else "none"
    return {"folder": run.folder, "facts": facts, "config": run.config}


def _colour(info: DatasetInfo, index: int) -> str:
    red, green, blue = info.palette[3 * index : 3 * index + 3]
    return f"rgb({red} {green} {blue})"
