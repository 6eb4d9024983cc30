"""Label maps in colour, and pictures put together from panels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
FONT_SIZE = 13
MARGIN = 6


def colorize(mask: np.ndarray, palette: Sequence[int]) -> np.ndarray:
    """Colour an H×W mask of indices 0 to 255.

    Args:
        mask: H×W integers.
        palette: 768 values, R, G and B of each index.

    Returns:
        H×W×3 uint8.
    """
    return np.asarray(palette, dtype=np.uint8).reshape(256, 3)[mask]


def blend(image: np.ndarray, colours: np.ndarray, alpha: float = 0.7) -> np.ndarray:
    """alpha · colours + (1 − alpha) · image, rounded to the nearest integer.

    Args:
        image: H×W×3 uint8.
        colours: H×W×3 uint8, as `colorize` gives them.
        alpha: the share of the colours, in [0, 1].

    Returns:
        H×W×3 uint8.

    Raises:
        ValueError: the shapes differ.
    """
    if image.shape != colours.shape:
        raise ValueError(f"shapes differ: {image.shape} and {colours.shape}")
    return np.rint(alpha * colours + (1 - alpha) * image).astype(np.uint8)


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Join H×W×3 uint8 panels from left to right; raises ValueError if their heights differ."""
    return np.concatenate(panels, axis=1)


def enlarge(image: np.ndarray, factor: int, smooth: bool) -> np.ndarray:
    """Enlarge H×W×3 uint8 by a whole `factor`: bicubic if `smooth` (photographs), else nearest."""
    height, width = image.shape[:2]
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    resized = Image.fromarray(image).resize((width * factor, height * factor), method)
    return np.array(resized)


def picture(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = ()) -> np.ndarray:
    """Lay panels out as a grid on white, with a title above each column.

    Args:
        rows: rows of H×W×3 uint8 panels, as many in each row; their sizes may differ. A panel is
            centred in its cell, which is as wide as its column and as high as its row.
        titles: one a column, or none.

    Returns:
        H×W×3 uint8.

    Raises:
        ValueError: the rows differ in length, or the titles do not match them.
    """
    columns = len(rows[0])
    if any(len(row) != columns for row in rows) or len(titles) not in (0, columns):
        raise ValueError("every row needs one panel a column, and titles one a column or none")
    font = ImageFont.load_default(FONT_SIZE)
    widths = [max(row[column].shape[1] for row in rows) for column in range(columns)]
    for column, title in enumerate(titles):
        widths[column] = max(widths[column], int(np.ceil(font.getlength(title))))
    heights = [max(panel.shape[0] for panel in row) for row in rows]
    top = MARGIN + (FONT_SIZE + MARGIN if titles else 0)

    size = (sum(widths) + MARGIN * (columns + 1), sum(heights) + top + MARGIN * len(rows))
    canvas = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(canvas)
    lefts = MARGIN + np.cumsum([0] + [width + MARGIN for width in widths[:-1]])
    for left, width, title in zip(lefts, widths, titles, strict=False):
        draw.text((left + width / 2, MARGIN), title, fill=BLACK, font=font, anchor="mt")
    for row, height in zip(rows, heights, strict=True):
        for left, width, panel in zip(lefts, widths, row, strict=True):
            x = int(left) + (width - panel.shape[1]) // 2
            y = top + (height - panel.shape[0]) // 2
            canvas.paste(Image.fromarray(panel), (x, y))
        top += height + MARGIN
    return np.array(canvas)


def legend(
    classes: Sequence[str], palette: Sequence[int], shown: Sequence[int], width: int
) -> np.ndarray:
    """Draw the names of the `shown` class indices beside squares in their colours.

    Args:
        classes: class names in index order.
        palette: 768 values, R, G and B of each index.
        shown: the indices to list, in this order.
        width: the width in pixels at which the entries wrap; one that is wider still is cut off.

    Returns:
        H×width×3 uint8, white.
    """
    font = ImageFont.load_default(FONT_SIZE)
    line_height = FONT_SIZE + MARGIN
    placed = []
    x = y = MARGIN
    for index in shown:
        advance = FONT_SIZE + MARGIN + int(np.ceil(font.getlength(classes[index]))) + 2 * MARGIN
        if x > MARGIN and x + advance > width:
            x, y = MARGIN, y + line_height
        placed.append((x, y, index))
        x += advance

    canvas = Image.new("RGB", (width, y + line_height), WHITE)
    draw = ImageDraw.Draw(canvas)
    for x, y, index in placed:
        colour = tuple(palette[3 * index : 3 * index + 3])
        square = (x, y, x + FONT_SIZE - 1, y + FONT_SIZE - 1)
        draw.rectangle(square, fill=colour, outline=BLACK)
        text = (x + FONT_SIZE + MARGIN, y + FONT_SIZE / 2)
        draw.text(text, classes[index], fill=BLACK, font=font, anchor="lm")
    return np.array(canvas)
