"""The page of an evaluation: one file that opens from disk and needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.evaluation.numbers import means
from core.evaluation.outcome import Outcome
from core.evaluation.page.images import images_section
from core.evaluation.page.markup import Markup, tag
from core.evaluation.page.matrix import matrix_figure, scale
from core.evaluation.page.run import run_section
from core.evaluation.page.tables import class_table, means_table
from core.evaluation.variants import Evaluated
from utils.errors import UserError
from utils.files import write_text

HERE = Path(__file__).parent
PAGE = "index.html"
# the browser itself then refuses whatever would leave the page
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

MEASURES_NOTE = (
    "In per cent, over all pixels of all images: IoU = TP / (TP + FN + FP), precision = TP / "
    "(TP + FP), recall = TP / (TP + FN). A ratio without a denominator counts as 0."
)
CLASSES_NOTE = "Pixels are those of the ground truth. A column's title sorts the table by it."
MATRIX_NOTE = (
    "A row for each class of the ground truth, a column for each predicted one. Rows add up to "
    "100 %; colours deepen with the square root, so that rare confusions show."
)


def write_page(folder: str | Path, outcome: Outcome) -> Path:
    """Write FOLDER/index.html, styles, scripts and pictures inside, in one step.

    Raises:
        UserError: it cannot be written, or an image that it shows cannot be read.
    """
    path = Path(folder) / PAGE
    text = build_page(outcome)
    try:
        # a page is to be read: names that are not UTF-8 show as they do on a terminal
        write_text(path, text, errors="backslashreplace")
    except OSError as error:
        raise UserError(f"cannot write the report to {path} ({error.strerror})") from error
    return path


def build_page(outcome: Outcome) -> str:
    """The page as HTML. It reads the images that it shows, and no others."""
    title = f"Segmentation of {outcome.filelist}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{title} · {headline(outcome.evaluated)}"),
        tag("style", _part("style.css")),
    )
    swatches = [_swatch(outcome, index) for index in range(len(outcome.record.palette) // 3)]
    body = tag(
        "body",
        _header(outcome),
        tag("main", *_sections(outcome, swatches)),
        tag("script", _part("script.js")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def headline(evaluated: Sequence[Evaluated]) -> str:
    """The mean IoU over all classes of each variant, as `mIoU 59.70 / 62.70`."""
    return "mIoU " + " / ".join(f"{100 * means(each.scores, 0)['iou']:.2f}" for each in evaluated)


def _header(outcome: Outcome) -> Markup:
    counts = dict.fromkeys(len(each.evaluation.images) for each in outcome.evaluated)
    images = " and ".join(f"{count:,}" for count in counts)
    facts = {
        "data set": outcome.record.name,
        "list": outcome.filelist,
        "images": f"{images} of {len(outcome.entries):,} evaluated",
        **{each.variant.title: each.variant.source for each in outcome.evaluated},
        **({"with CRF": outcome.lack_of_crf} if outcome.lack_of_crf else {}),
        "date": f"{outcome.date:%Y-%m-%d %H:%M %z}",
    }
    return tag(
        "header",
        tag(
            "div",
            tag("h1", "Segmentation masks against ground truth"),
            tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in facts.items())),
        ),
        tag("div", *_headline_figures(outcome), class_="figures"),
    )


def _headline_figures(outcome: Outcome) -> list[Markup]:
    figures = []
    for each in outcome.evaluated:
        percent = f"{100 * means(each.scores, 0)['iou']:.2f}"
        over = tag("span", f"mIoU, all {outcome.record.num_classes} classes")
        value = tag("span", percent, class_=f"bar {each.variant.name}", style=f"--v:{percent}%")
        figures.append(tag("p", value, tag("small", over, f" {each.variant.title}")))
    return figures


def _sections(outcome: Outcome, swatches: Sequence[Markup]) -> list[Markup]:
    evaluated, classes = outcome.evaluated, outcome.record.classes
    matrices = [
        matrix_figure(each.evaluation.histogram, classes, each.variant.title) for each in evaluated
    ]
    return [
        *_notes(outcome),
        _section("Means", MEASURES_NOTE, means_table(evaluated, len(classes))),
        _section("Classes", CLASSES_NOTE, class_table(evaluated, classes, swatches)),
        _section(
            "Confusion matrix",
            MATRIX_NOTE,
            tag("p", *scale(), class_="scale"),
            tag("div", *matrices, class_="matrices"),
        ),
        images_section(outcome, swatches),
        *([run_section(outcome.run)] if outcome.run else []),
    ]


def _section(title: str, note: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), tag("p", note, class_="note"), *content)


def _notes(outcome: Outcome) -> list[Markup]:
    """What a reader has to know before the numbers: images that were left out."""
    notes = []
    for each in outcome.evaluated:
        if left_out := each.evaluation.left_out:
            title = (
                f"{len(left_out):,} of {len(outcome.entries):,} images have no usable mask "
                f"{each.variant.title} and are left out"
            )
            listed = [tag("li", str(mask)) for mask in left_out]
            notes.append(
                tag("details", tag("summary", title), tag("ul", *listed), class_="warning")
            )
    images = [{image.id for image in each.evaluation.images} for each in outcome.evaluated]
    if any(ids != images[0] for ids in images):
        text = "The variants are evaluated on different images: their numbers do not compare."
        notes.append(tag("p", text, class_="warning"))
    return notes


def _swatch(outcome: Outcome, index: int) -> Markup:
    red, green, blue = outcome.record.palette[3 * index : 3 * index + 3]
    return tag("span", class_="swatch", style=f"background:rgb({red} {green} {blue})")


def _part(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))
