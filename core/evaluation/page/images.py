"""The classes' best and worst images with the overlays of what was made of them."""

from __future__ import annotations

from collections.abc import Sequence

from core.evaluation.evaluate import ImageAgreement
from core.evaluation.gallery import Exhibit, best_and_worst, draw_exhibits
from core.evaluation.outcome import Outcome
from core.evaluation.page.markup import Markup, join, tag

COUNT = 3
"""Images of each kind a class."""


def images_section(outcome: Outcome, swatches: Sequence[Markup]) -> Markup:
    """The legend, and a part that can be folded for each class that the ground truth has."""
    first, classes = outcome.evaluated[0], outcome.record.classes
    chosen = [best_and_worst(first.evaluation, index, COUNT) for index in range(len(classes))]
    shown = {image.id for best, worst in chosen for image in (*best, *worst)}
    exhibits = draw_exhibits(
        (entry for entry in outcome.entries if entry.id in shown),
        [each.variant.predict for each in outcome.evaluated],
        outcome.record.palette,
        outcome.record.num_classes,
    )
    parts = [
        _class_part(outcome, index, chosen[index], exhibits, swatches)
        for index in range(len(classes))
        if any(chosen[index])
    ]
    legend = [
        tag("a", swatches[index], name, href=f"#class-{index}")
        if any(chosen[index])
        else tag("span", swatches[index], name)
        for index, name in enumerate(classes)
    ]
    legend.append(tag("span", swatches[outcome.record.ignore_index], "ambiguous, counts nowhere"))
    note = (
        f"Of the images whose ground truth has a class, the {COUNT} with the highest and the "
        f"{COUNT} with the lowest TP\u00a0−\u00a0FN\u00a0−\u00a0FP in pixels, "
        f"{first.variant.title}: those that help and hurt the class's IoU most. Percentages are "
        "the class's IoU in the image alone."
    )
    return tag(
        "section",
        tag("h2", "Best and worst images"),
        tag("p", note, class_="note"),
        tag("nav", *legend, class_="legend", aria_label="Classes and their colours"),
        *parts,
    )


def _class_part(
    outcome: Outcome,
    index: int,
    chosen: tuple[list[ImageAgreement], list[ImageAgreement]],
    exhibits: dict[str, Exhibit],
    swatches: Sequence[Markup],
) -> Markup:
    having = sum(index in image.by_class for image in outcome.evaluated[0].evaluation.images)
    scores = ", ".join(
        f"{100 * each.scores.iou[index]:.2f} {each.variant.title}" for each in outcome.evaluated
    )
    name = outcome.record.classes[index]
    summary = tag(
        "summary",
        tag("h3", swatches[index], name),
        tag("span", f"{having:,} images · IoU {scores}"),
    )
    groups = [
        tag("div", tag("h4", title), *(_row(image, index, exhibits, outcome) for image in images))
        for title, images in zip(("Best", "Worst"), chosen, strict=True)
        if images
    ]
    return tag("details", summary, *groups, id=f"class-{index}", open="", class_="class")


def _row(
    image: ImageAgreement, index: int, exhibits: dict[str, Exhibit], outcome: Outcome
) -> Markup:
    """One image: its name and score, and its pictures side by side."""
    exhibit = exhibits[image.id]
    panels = [
        _panel(exhibit, exhibit.image, f"image {image.id}", "image"),
        _panel(exhibit, exhibit.ground_truth, f"ground truth of {image.id}", "ground truth"),
    ]
    for each, prediction in zip(outcome.evaluated, exhibit.predictions, strict=True):
        title = each.variant.title
        if prediction is None:
            panels.append(tag("figure", tag("div", "left out"), tag("figcaption", title)))
            continue
        iou = tag("b", f"{100 * prediction.iou[index]:.1f} %")
        alternative = f"prediction for {image.id}, {title}"
        panels.append(_panel(exhibit, prediction.picture, alternative, join(title, " ", iou)))
    score = f"{image.by_class[index]:+,} pixels".replace("-", "−")
    about = tag("p", tag("span", image.id), tag("small", score))
    return tag("div", about, *panels, class_="row")


def _panel(exhibit: Exhibit, picture: str, alternative: str, caption: str) -> Markup:
    width, height = exhibit.size
    shown = tag("img", src=picture, alt=alternative, width=width, height=height, decoding="async")
    return tag("figure", shown, tag("figcaption", caption))
