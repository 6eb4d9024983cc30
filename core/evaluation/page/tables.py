"""The two tables of scores: means, and every class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.evaluation.numbers import MEASURES, means, means_of_lacking_groups
from core.evaluation.page.markup import Markup, join, tag
from core.evaluation.variants import Evaluated
from utils.metrics import SegmentationScores

TITLES = dict(zip(MEASURES, ("IoU", "precision", "recall"), strict=True))


def means_table(evaluated: Sequence[Evaluated], num_classes: int) -> Markup:
    """A row for each variant's means over the objects, and over all classes.

    Where some of these do not occur in the ground truth, a row each for those that do.
    """
    head = tag(
        "tr",
        sortable("masks", 0, sort="ascending"),
        sortable("mean over", 1),
        *(sortable(title, column, number=True) for column, title in enumerate(TITLES.values(), 2)),
    )
    rows = []
    for each in evaluated:
        for order, (title, values) in enumerate(_groups_of_means(each.scores, num_classes)):
            cells = [percent_cell(values[measure], each.variant.name) for measure in MEASURES]
            rows.append(
                tag(
                    "tr",
                    tag("th", each.variant.title, scope="row", data_value=len(rows)),
                    tag("td", title, class_="text", data_value=order),
                    *cells,
                )
            )
    return table("Means", [head], rows, id_="means")


def _groups_of_means(
    scores: SegmentationScores, num_classes: int
) -> Iterator[tuple[str, dict[str, float]]]:
    yield f"{num_classes - 1} objects", means(scores, first=1)
    yield f"all {num_classes}", means(scores, first=0)
    for name, found in means_of_lacking_groups(scores).items():
        yield f"the {found['classes']} {name} that occur", found


def class_table(
    evaluated: Sequence[Evaluated], classes: Sequence[str], swatches: Sequence[Markup]
) -> Markup:
    """A row a class: pixels, and IoU, precision and recall of each variant.

    Args:
        evaluated: the variants; they share the column of pixels unless different images were left
            out of them.
        classes: the names in index order.
        swatches: their colours.
    """
    scores = [each.scores for each in evaluated]
    variants = [each.variant for each in evaluated]
    pixels = [scores[0].pixels]
    if any((score.pixels != pixels[0]).any() for score in scores):
        pixels = [score.pixels for score in scores]

    rows = []
    for index, name in enumerate(classes):
        label = join(swatches[index], tag("a", name, href=f"#class-{index}"))
        cells = [
            tag("td", f"{counts[index]:,}", class_="number", data_value=int(counts[index]))
            for counts in pixels
        ]
        cells += [
            percent_cell(getattr(score, measure)[index], variant.name)
            for measure in MEASURES
            for score, variant in zip(scores, variants, strict=True)
        ]
        rows.append(tag("tr", tag("th", label, scope="row", data_value=index), *cells))

    columns = [("pixels", len(pixels)), *((title, len(scores)) for title in TITLES.values())]
    head = class_heads(columns, [variant.title for variant in variants])
    return table("Classes", head, rows, id_="classes")


def class_heads(columns: Sequence[tuple[str, int]], variants: Sequence[str]) -> list[Markup]:
    """The head of the table of classes; what every variant has a column of gets a second line."""
    lines = 1 if len(variants) == 1 else 2
    first, second = [sortable("class", 0, sort="ascending", rows=lines)], []
    column = 1
    for title, width in columns:
        if width == 1:
            first.append(sortable(title, column, number=True, rows=lines))
        else:
            first.append(tag("th", title, colspan=width, scope="colgroup", class_="group"))
            for offset, variant in enumerate(variants):
                second.append(sortable(variant, column + offset, number=True, group=title))
        column += width
    return [tag("tr", *first), tag("tr", *second)][:lines]


def sortable(
    title: str,
    column: int,
    *,
    sort: str = "none",
    number: bool = False,
    rows: int = 1,
    group: str = "",
) -> Markup:
    """A header cell whose button sorts the table by a column."""
    # said by screen readers in place of the button's content, of which the arrow would be a part
    label = f"{group}, {title}" if group else title
    return tag(
        "th",
        tag("button", title, type="button", aria_label=label),
        scope="col",
        rowspan=rows,
        aria_sort=sort,
        class_="number" if number else None,
        data_column=column,
    )


def percent_cell(share: float, series: str) -> Markup:
    """A share in [0, 1] in per cent, with a bar in the colour of its series."""
    percent = f"{100 * share:.2f}"
    bar = tag("span", percent, class_=f"bar {series}", style=f"--v:{percent}%")
    return tag("td", bar, class_="number", data_value=f"{share:.8f}")


def table(caption: str, head: Sequence[Markup], rows: Sequence[Markup], id_: str) -> Markup:
    """A table in a box that scrolls where the screen is narrow."""
    content = tag(
        "table",
        tag("caption", caption, class_="hidden"),
        tag("thead", *head),
        tag("tbody", *rows),
        id=id_,
    )
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)
