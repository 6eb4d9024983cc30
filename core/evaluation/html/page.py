"""The report of an evaluation: one HTML file that opens from disk and needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.evaluation.evaluate import Evaluation
from core.evaluation.html import css_colour, render
from core.evaluation.html.examples import best_and_worst, draw_examples
from core.evaluation.report import Report, RunInfo
from core.evaluation.sources import MaskSource
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import MEASURES, means, means_of_lacking_groups

PAGE = "index.html"
MEASURE_TITLES = ("IoU", "precision", "recall")
NO_CLASS = "no class"
SHOWN = 3
"""Images of each kind, best and worst, a class."""


def write_page(folder: str | Path, report: Report) -> Path:
    """Write FOLDER/index.html, styles, scripts and pictures inside, in one step.

    Raises:
        UserError: it cannot be written, or an image that it shows cannot be read.
    """
    path = Path(folder) / PAGE
    text = build_page(report)
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write the report to {path} ({error.strerror})") from error
    return path


def build_page(report: Report) -> str:
    """The page as HTML. It reads the images that it shows, and no others."""
    info = report.info
    classes = _classes(report)
    shown = {image.id for each in classes for image in (*each["best"], *each["worst"])}
    evaluated_ids = [[image.id for image in each.images] for _, each in report.results]
    return render(
        "report.html.j2",
        filelist=report.filelist,
        about=_about(report),
        listed=len(report.entries),
        comparable=all(ids == evaluated_ids[0] for ids in evaluated_ids),
        sources=[_source(*result, info.classes) for result in report.results],
        measures=MEASURE_TITLES,
        means=_means(report),
        classes=classes,
        columns=[
            ("pixels", len(classes[0]["pixels"])),
            *((title, len(report.results)) for title in MEASURE_TITLES),
        ],
        ignored=css_colour(info, info.ignore_index),
        shown=SHOWN,
        examples=draw_examples(
            [entry for entry in report.entries if entry.id in shown],
            [source.predict for source, _ in report.results],
            info,
        ),
        run=_run(report.run) if report.run else None,
    )


def _about(report: Report) -> dict[str, str]:
    counts = dict.fromkeys(len(evaluation.images) for _, evaluation in report.results)
    images = " and ".join(f"{count:,}" for count in counts)
    return {
        "data set": report.info.name,
        "list" if report.entries[0].has_image else "ground truth": report.filelist,
        "images": f"{images} of {len(report.entries):,} evaluated",
        **{source.title: source.origin for source, _ in report.results},
        **({"with CRF": report.lack_of_crf} if report.lack_of_crf else {}),
        "date": f"{report.date:%Y-%m-%d %H:%M %z}",
    }


def _source(source: MaskSource, evaluation: Evaluation, classes: Sequence[str]) -> dict[str, Any]:
    """A source's names, its mean IoU, what was left out and its confusion matrix.

    The matrix has a column for pixels predicted as no class only if there are any.
    """
    histogram = evaluation.histogram
    columns = [*classes, NO_CLASS] if histogram[:, -1].any() else list(classes)
    return {
        "name": source.name,
        "title": source.title,
        "miou": means(evaluation.scores, 0)["iou"],
        "left_out": [str(mask) for mask in evaluation.left_out],
        "columns": columns,
        "rows": [
            {"name": name, "total": sum(counts), "counts": counts[: len(columns)]}
            for name, counts in zip(classes, histogram.tolist(), strict=True)
        ],
    }


def _means(report: Report) -> list[dict[str, Any]]:
    """The table's rows: each source's means over the objects, and over all classes.

    Where some of these do not occur in the ground truth, a row each for those that do.
    """
    num_classes = report.info.num_classes
    rows = []
    for source, evaluation in report.results:
        scores = evaluation.scores
        groups = {
            f"{num_classes - 1} objects": means(scores, first=1),
            f"all {num_classes}": means(scores, first=0),
        }
        for name, found in means_of_lacking_groups(scores).items():
            groups[f"{name} that occur ({found['classes']})"] = found
        for order, (title, found) in enumerate(groups.items()):
            shares = [found[measure] for measure in MEASURES]
            rows.append({"source": source, "over": title, "order": order, "shares": shares})
    return rows


def _classes(report: Report) -> list[dict[str, Any]]:
    """Each class's numbers, and its best and worst images in the first source of masks.

    Pixels of the ground truth are the same for all sources, and given once, unless different
    images were left out.
    """
    _, first = report.results[0]
    scores = [evaluation.scores for _, evaluation in report.results]
    pixels = [score.pixels for score in scores]
    if all((counts == pixels[0]).all() for counts in pixels):
        pixels = pixels[:1]
    classes = []
    for index, name in enumerate(report.info.classes):
        best, worst = best_and_worst(first, index, SHOWN)
        classes.append(
            {
                "index": index,
                "name": name,
                "colour": css_colour(report.info, index),
                "pixels": [int(counts[index]) for counts in pixels],
                "measures": [
                    [float(getattr(score, measure)[index]) for score in scores]
                    for measure in MEASURES
                ],
                "images": sum(index in image.by_class for image in first.images),
                "best": best,
                "worst": worst,
            }
        )
    return classes


def _run(run: RunInfo) -> dict[str, Any]:
    facts = None if run.environment is None else dict(run.environment)
    if facts is not None and run.changed is not None:
        facts["changes"] = "diff.patch holds those since the commit" if run.changed else "none"
    return {"folder": run.folder, "facts": facts, "config": run.config}
