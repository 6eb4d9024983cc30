"""Each class's best and worst images, and small pictures of what was made of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.evaluation.evaluate import Evaluation, ImageAgreement, Predict, UnusableMaskError
from core.evaluation.text import ranking
from datasets.files import read_ground_truth, read_pair
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.drawing import blend, colorize
from utils.metrics import joint_histogram, segmentation_scores
from utils.processes import available_cpus

MAX_SIDE = 240
QUALITY = 72
# more of the image than in the pictures of inference: these are small
ALPHA = 0.6


@dataclass(frozen=True)
class Prediction:
    """One source's mask of an image: a picture, and each class's IoU in this image, in [0, 1]."""

    picture: str
    iou: np.ndarray


@dataclass(frozen=True)
class Example:
    """An image and what was made of it, as JPEGs of at most `MAX_SIDE` pixels in data URIs.

    Attributes:
        size: (width, height) of the pictures.
        image: the photograph, or None where there are masks alone.
        ground_truth: its classes' colours over the photograph, if there is one.
        predictions: one a source of masks; None where its mask was left out.
    """

    size: tuple[int, int]
    image: str | None
    ground_truth: str
    predictions: list[Prediction | None]


def best_and_worst(
    evaluation: Evaluation, index: int, count: int
) -> tuple[list[ImageAgreement], list[ImageAgreement]]:
    """At most `count` images with the highest TP − FN − FP of a class, and with the lowest.

    The best come best first, the worst come worst first; no image is among both.
    """
    ranked = ranking(evaluation, index)
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = ranked[len(ranked) - min(count, len(ranked) // 2) :]
    return best, worst[::-1]


def draw_examples(
    entries: Sequence[ListEntry], predicts: Sequence[Predict], info: DatasetInfo
) -> dict[str, Example]:
    """Draw images, by their ids.

    Raises:
        UserError: an image cannot be read, or has another size than its ground truth.
    """
    with ThreadPoolExecutor(max_workers=min(8, available_cpus())) as pool:
        drawn = pool.map(lambda entry: draw_example(entry, predicts, info), entries)
        return {entry.id: example for entry, example in zip(entries, drawn, strict=True)}


def draw_example(entry: ListEntry, predicts: Sequence[Predict], info: DatasetInfo) -> Example:
    """Draw one image with its ground truth and the prediction of every source."""
    image = None
    if entry.has_image:
        photograph, ground_truth = read_pair(entry)
        image = np.array(photograph)
    else:
        ground_truth = read_ground_truth(entry)

    def overlay(mask: np.ndarray) -> tuple[str, tuple[int, int]]:
        colours = colorize(mask, info.palette)
        return thumbnail(colours if image is None else blend(image, colours, ALPHA))

    predictions: list[Prediction | None] = []
    for predict in predicts:
        try:
            mask = predict(entry, ground_truth)
        except UnusableMaskError:
            predictions.append(None)
            continue
        scores = segmentation_scores(joint_histogram(ground_truth, mask, info.num_classes))
        predictions.append(Prediction(overlay(mask)[0], scores.iou))
    truth, size = overlay(ground_truth)
    picture = None if image is None else thumbnail(image)[0]
    return Example(size, picture, truth, predictions)


def thumbnail(image: np.ndarray) -> tuple[str, tuple[int, int]]:
    """An H×W×3 uint8 image as a JPEG of at most `MAX_SIDE` pixels: its data URI and (w, h)."""
    picture = Image.fromarray(image)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", picture.size
