"""The confusion matrix as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.evaluation.page.markup import Markup, tag

CELL = 26
LEFT = 104
TOP = 92
# a slanted name may end right of its column
RIGHT = 52
DARK = 0.6
"""From this share on a cell is dark enough for white digits."""
# shares below are left without their number
LEAST = 0.005
NO_CLASS = "no class"


def matrix_figure(histogram: np.ndarray, classes: Sequence[str], title: str) -> Markup:
    """Draw a K × (K + 1) histogram, each row divided by its sum.

    A cell's colour deepens with the square root of its share, so that rare confusions show; on the
    diagonal it is another one. The column of pixels predicted as no class is drawn only
    where there are such. Every cell has its numbers as a title.
    """
    columns = list(classes)
    if histogram[:, -1].any():
        columns.append(NO_CLASS)
    totals = histogram.sum(axis=1, keepdims=True)
    shares = np.divide(histogram, totals, out=np.zeros(histogram.shape), where=totals > 0)

    width, height = LEFT + CELL * len(columns) + RIGHT, TOP + CELL * len(classes) + 4
    drawing = tag(
        "svg",
        *column_names(columns),
        *row_names(classes, totals[:, 0]),
        *(
            cell(row, column, shares[row, column], int(histogram[row, column]), classes, columns)
            for row in range(len(classes))
            for column in range(len(columns))
            if totals[row]
        ),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        tabindex=0,
        aria_label=f"Confusion matrix, {title}; arrow keys read its cells",
    )
    return tag(
        "figure",
        tag("figcaption", title),
        tag("div", drawing, class_="scroll"),
        tag("output", "Point at a cell, or use the arrow keys.", class_="readout"),
        class_="matrix",
    )


def cell(
    row: int,
    column: int,
    share: float,
    pixels: int,
    classes: Sequence[str],
    columns: Sequence[str],
) -> Markup:
    """One cell: its square, its number in per cent unless it is small, and its title."""
    x, y = LEFT + CELL * column, TOP + CELL * row
    opacity = f"{np.sqrt(share):.3f}".rstrip("0").rstrip(".")
    square = tag("rect", x=x, y=y, width=CELL - 1, height=CELL - 1, fill_opacity=opacity)
    number = Markup()
    if share >= LEAST:
        middle = {"x": x + CELL // 2, "y": y + CELL // 2}
        dark = "dark" if share >= DARK else None
        number = tag("text", f"{100 * share:.0f}", class_=dark, **middle)
    text = f"{classes[row]} predicted as {columns[column]}: {100 * share:.2f} % ({pixels:,} pixels)"
    kind = "right" if row == column else "wrong"
    return tag(
        "g",
        tag("title", text),
        square,
        number,
        class_=f"cell {kind}",
        data_row=row,
        data_column=column,
    )


def column_names(columns: Sequence[str]) -> list[Markup]:
    """The names above, slanted."""
    names = []
    for column, name in enumerate(columns):
        x, y = LEFT + CELL * column + CELL // 2, TOP - 6
        place = f"translate({x} {y}) rotate(-50)"
        names.append(tag("text", name, transform=place, class_="column"))
    return names


def row_names(classes: Sequence[str], totals: np.ndarray) -> list[Markup]:
    """The names on the left; those without pixels are faint."""
    return [
        tag(
            "text",
            name,
            x=LEFT - 8,
            y=TOP + CELL * row + CELL // 2,
            class_="row" if totals[row] else "row absent",
        )
        for row, name in enumerate(classes)
    ]


def scale() -> list[Markup]:
    """How deep the two colours are at some shares."""
    parts = []
    for kind, title in (("right", "on the diagonal, right:"), ("wrong", "elsewhere, wrong:")):
        parts.append(tag("span", title))
        for share in (0.01, 0.1, 0.4, 1.0):
            opacity = f"--o:{np.sqrt(share):.3f}"
            shade = f"{kind} dark" if share >= DARK else kind
            parts.append(tag("span", f"{100 * share:.0f} %", class_=shade, style=opacity))
    return parts
