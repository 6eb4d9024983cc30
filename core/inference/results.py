"""What inference leaves of an image: masks, their CRF versions, pictures and probabilities.

Worker processes import this module; it stays free of PyTorch so that they start at once and small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from core.inference.probabilities import save_probabilities
from datasets.files import write_mask
from utils.crf import crf_inference
from utils.drawing import blend, colorize, side_by_side
from utils.errors import UserError
from utils.files import atomic_path

CRF_FOLDER = "crf"
PICTURE_FOLDER = "vis"
PROBABILITY_FOLDER = "prob"
# from what files show to their folder and suffix
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "masks": ("", ".png"),
        "masks with CRF": (CRF_FOLDER, ".png"),
        "pictures": (PICTURE_FOLDER, ".png"),
        "merged masks": (PROBABILITY_FOLDER, ".npz"),
    }
)


@dataclass(frozen=True, eq=False)
class Result:
    """What the network says of an image.

    Attributes:
        id: names the files.
        image: H×W×3 uint8, RGB.
        merged: C×H×W float32 merged masks, background first, after BG_POW.
        ground_truth: H×W class indices, or None where there is none.
    """

    id: str
    image: np.ndarray
    merged: np.ndarray
    ground_truth: np.ndarray | None


@dataclass(frozen=True)
class Outputs:
    """What is written of every image, and where.

    Attributes:
        folder: takes ID.png, crf/ID.png, vis/ID.png and prob/ID.npz.
        palette: 768 values, R, G and B of each mask index.
        ignore_index: the mask value of pixels that are left out.
        crf: whether there are masks with CRF.
        crf_present_only: whether the CRF knows only the classes that an image's masks have.
        min_confidence: the least share of a pixel's masks that its class must have, or it is left
            out; in [0, 1].
        probabilities: whether the merged masks are kept.
    """

    folder: Path
    palette: tuple[int, ...]
    ignore_index: int
    crf: bool = True
    crf_present_only: bool = False
    min_confidence: float = 0.0
    probabilities: bool = False

    @property
    def kinds(self) -> list[str]:
        """The keys of KINDS that are written."""
        wanted = {"masks with CRF": self.crf, "merged masks": self.probabilities}
        return [kind for kind in KINDS if wanted.get(kind, True)]

    def folder_of(self, kind: str) -> Path:
        """Where files of a kind go."""
        return self.folder / KINDS[kind][0]

    def path(self, kind: str, image_id: str) -> Path:
        """An image's file of a kind."""
        return self.folder_of(kind) / f"{image_id}{KINDS[kind][1]}"


def label_map(probabilities: np.ndarray, min_confidence: float, ignore_index: int) -> np.ndarray:
    """The class with the highest value at each pixel, if it is high enough.

    Args:
        probabilities: C×H×W floats from 0 on; those of a pixel need not sum to one.
        min_confidence: `ignore_index` stands where max_c p_c < min_confidence · Σ_c p_c, or where
            all are 0. With 0 that is nowhere.
        ignore_index: see there.

    Returns:
        H×W class indices; of equal classes the lowest.
    """
    labels = probabilities.argmax(axis=0)
    if min_confidence > 0:
        highest, total = probabilities.max(axis=0), probabilities.sum(axis=0)
        labels[(highest < min_confidence * total) | (total == 0)] = ignore_index
    return labels


def write_result(result: Result, outputs: Outputs) -> None:
    """Write the files of an image, each of them whole or not at all, ID.png last.

    ID.png and crf/ID.png are palette PNGs of class indices, without and with CRF; vis/ID.png is an
    RGB picture of both and, where there is one, the ground truth, each 0.7 of the palette's colours
    and 0.3 of the image; prob/ID.npz keeps the merged masks.

    Raises:
        UserError: a file cannot be written, or pydensecrf is not installed.
        RuntimeError: anything else went wrong; it names the image.
    """
    try:
        _write(result, outputs)
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write the results of {result.id} below {outputs.folder}: "
            f"{error.strerror or error}"
        ) from error
    except Exception as error:
        raise RuntimeError(f"the results of {result.id} could not be made: {error}") from error


def _write(result: Result, outputs: Outputs) -> None:
    limit = (outputs.min_confidence, outputs.ignore_index)
    masks = {"masks": label_map(result.merged, *limit)}
    if outputs.crf:
        refined = crf_inference(result.image, result.merged, present_only=outputs.crf_present_only)
        masks["masks with CRF"] = label_map(refined, *limit)
    drawn = [*masks.values()]
    if result.ground_truth is not None:
        drawn.append(result.ground_truth)
    panels = [blend(result.image, colorize(mask, outputs.palette), 0.7) for mask in drawn]

    with atomic_path(outputs.path("pictures", result.id)) as temporary:
        Image.fromarray(side_by_side(panels)).save(temporary, format="PNG")
    if outputs.probabilities:
        save_probabilities(outputs.path("merged masks", result.id), result.merged)
    # the mask itself last: where it is, the others are
    for kind, mask in reversed(masks.items()):
        write_mask(outputs.path(kind, result.id), mask, outputs.palette)
