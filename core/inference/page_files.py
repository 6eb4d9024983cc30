"""What the page of masks needs of each image, a small picture and numbers, made as masks are.

Worker processes import this module without PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.drawing import blend, colorize, side_by_side
from utils.errors import UserError
from utils.files import atomic_path, write_text

MAX_SIDE = 320
QUALITY = 80
ALPHA = 0.6
DIGITS = 6


def write_panels(
    path: str | Path, image: np.ndarray, masks: Sequence[np.ndarray], palette: Sequence[int]
) -> None:
    """Write an image, and that under each of its masks, side by side in a JPEG, in one step.

    Args:
        path: of the JPEG; each of its panels has at most `MAX_SIDE` pixels a side.
        image: H×W×3 uint8, RGB.
        masks: H×W class indices. Background stays as it is, so that the image can be recognised.
        palette: 768 values, R, G and B of each index.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    small = np.array(picture)
    panels = [small]
    for mask in masks:
        shrunk = Image.fromarray(mask.astype(np.uint8))
        indices = np.array(shrunk.resize(picture.size, Image.Resampling.NEAREST))
        overlay = blend(small, colorize(indices, palette), ALPHA)
        panels.append(np.where(indices[..., None] > 0, overlay, small))
    with atomic_path(path) as temporary:
        # without subsampling: else colours would spread from one panel into the next
        Image.fromarray(side_by_side(panels)).save(
            temporary, format="JPEG", quality=QUALITY, optimize=True, subsampling=0
        )


def measure(
    mask: np.ndarray,
    merged: np.ndarray,
    scores: np.ndarray | None,
    labels: np.ndarray | None,
    min_score: float,
) -> dict[str, Any]:
    """The numbers of an image that the page shows, as JSON can hold them.

    Args:
        mask: H×W class indices; those beyond the classes are pixels without class.
        merged: C×H×W float32 merged masks, background first; see `Prediction`.
        scores: C−1 floats, the network's score of each object, or None.
        labels: C−1 zeros and ones, the objects that the image is known to have, or None.
        min_score: without labels, the image was taken to have objects of a higher score.

    Returns:
        `size`: H and W; `given`: the indices of the labels, or None; `scores`: by index, those of
        the objects that the network took the image to have, empty where labels are given;
        `classes`: by index, for each class of the mask, its share of the image's pixels and its
        confidence: the mean over its pixels of m_c / Σ_k m_k, in [0, 1].
    """
    predicted = {} if scores is None or labels is not None else dict(enumerate(scores.tolist(), 1))
    return {
        "size": list(mask.shape),
        "given": None if labels is None else (np.flatnonzero(labels) + 1).tolist(),
        "scores": {
            str(index): round(score, DIGITS)
            for index, score in predicted.items()
            if score > min_score
        },
        "classes": {
            str(index): [round(share, DIGITS), round(confidence, DIGITS)]
            for index, share, confidence in _classes(mask, merged)
        },
    }


def _classes(mask: np.ndarray, merged: np.ndarray) -> list[tuple[int, float, float]]:
    has_class = mask < len(merged)
    indices = np.where(has_class, mask, 0)
    total = merged.sum(axis=0)
    winner = np.take_along_axis(merged, indices[None], axis=0)[0]
    shares = np.divide(winner, total, out=np.zeros_like(total), where=total > 0)
    pixels = np.bincount(mask[has_class], minlength=len(merged))
    sums = np.bincount(mask[has_class], weights=shares[has_class], minlength=len(merged))
    return [
        (int(index), float(pixels[index] / mask.size), float(sums[index] / pixels[index]))
        for index in np.flatnonzero(pixels)
    ]


def write_numbers(path: str | Path, numbers: dict[str, Any]) -> None:
    """Write what `measure` returns, in one step."""
    write_text(path, json.dumps(numbers, separators=(",", ":")) + "\n")


def read_numbers(path: str | Path) -> dict[str, Any]:
    """Read what `write_numbers` has written, class indices as integers.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        numbers = json.loads(Path(path).read_text(encoding="utf-8"))
        for name in ("scores", "classes"):
            numbers[name] = {int(index): value for index, value in numbers[name].items()}
        return {name: numbers[name] for name in ("size", "given", "scores", "classes")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is missing or damaged; remove it, and the same command with --skip-existing "
            "makes it anew"
        ) from error
