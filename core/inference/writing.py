"""The files that inference writes of an image: masks, CRF masks, pictures and probabilities.

Worker processes import this module without PyTorch, so that they start fast and stay small.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from core.inference.page_files import measure, write_numbers, write_panels
from datasets.files import write_mask
from utils.crf import crf_inference
from utils.drawing import blend, colorize, side_by_side
from utils.errors import UserError
from utils.files import atomic_path
from utils.processes import interrupts_held_back, process_pool

CRF_FOLDER = "crf"
PICTURE_FOLDER = "vis"
PROBABILITY_FOLDER = "prob"
PAGE_FOLDER = "page"
# kind of file → folder and suffix
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "masks": ("", ".png"),
        "masks with CRF": (CRF_FOLDER, ".png"),
        "pictures": (PICTURE_FOLDER, ".png"),
        "merged masks": (PROBABILITY_FOLDER, ".npz"),
        "thumbnails": (PAGE_FOLDER, ".jpg"),
        "numbers": (PAGE_FOLDER, ".json"),
    }
)


@dataclass(frozen=True)
class Outputs:
    """What is written of every image, and where.

    Attributes:
        folder: takes ID.png, crf/ID.png, vis/ID.png, prob/ID.npz, page/ID.jpg and page/ID.json.
        palette: 768 values, R, G and B of each mask index.
        ignore_index: the mask value of pixels without class.
        crf: whether there are masks with CRF.
        crf_present_only: whether the CRF knows only the classes that an image's masks have.
        min_confidence: the share of a pixel's masks that its class must reach, in [0, 1]; below it
            the pixel gets `ignore_index`.
        probabilities: whether the merged masks are kept.
        page: whether there are thumbnails and numbers, which the page is made of.
        min_score: an image without labels was taken to have the objects of a higher score.
    """

    folder: Path
    palette: tuple[int, ...]
    ignore_index: int
    crf: bool = True
    crf_present_only: bool = False
    min_confidence: float = 0.0
    probabilities: bool = False
    page: bool = False
    min_score: float = 0.0

    @property
    def kinds(self) -> list[str]:
        """The keys of KINDS that are written."""
        wanted = {
            "masks with CRF": self.crf,
            "merged masks": self.probabilities,
            "thumbnails": self.page,
            "numbers": self.page,
        }
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
        ignore_index: stands for pixels without class.

    Returns:
        H×W class indices; of equal classes the lowest.
    """
    # with most of many classes absent, the argmax of all would take several times as long
    present = np.flatnonzero(probabilities.any(axis=(1, 2)) | (np.arange(len(probabilities)) == 0))
    if len(present) < len(probabilities):
        probabilities = probabilities[present]
    labels = present[probabilities.argmax(axis=0)]
    if min_confidence > 0:
        highest, total = probabilities.max(axis=0), probabilities.sum(axis=0)
        labels[(highest < min_confidence * total) | (total == 0)] = ignore_index
    return labels


def write_result(
    outputs: Outputs,
    image_id: str,
    image: np.ndarray,
    merged: np.ndarray,
    ground_truth: np.ndarray | None,
    scores: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> None:
    """Write the files of an image, each of them whole or not at all, ID.png last.

    ID.png and crf/ID.png are palette PNGs of class indices, without and with CRF; vis/ID.png is an
    RGB picture of both and, where there is one, the ground truth, each 0.7 of the palette's colours
    and 0.3 of the image; prob/ID.npz keeps the merged masks; page/ID.jpg is the image and a small
    picture of each mask, page/ID.json the numbers of the last mask (see `measure`).

    Args:
        outputs: what is written, and where.
        image_id: names the files.
        image: H×W×3 uint8, RGB.
        merged: C×H×W float32 merged masks, background first, after TEST.BG_POW.
        ground_truth: H×W class indices, or None where there is none.
        scores: C−1 floats, the network's score of each object, and
        labels: C−1 zeros and ones, the objects that the image is known to have, or None; both are
            kept for the page alone.

    Raises:
        UserError: a file cannot be written, or pydensecrf is not installed.
        RuntimeError: anything else went wrong; it names the image.
    """
    try:
        masks = _masks_of(outputs, image, merged)
        shown = [*masks.values(), *([] if ground_truth is None else [ground_truth])]
        panels = [blend(image, colorize(mask, outputs.palette), 0.7) for mask in shown]
        with atomic_path(outputs.path("pictures", image_id)) as temporary:
            Image.fromarray(side_by_side(panels)).save(temporary, format="PNG")
        if outputs.probabilities:
            save_probabilities(outputs.path("merged masks", image_id), merged)
        if outputs.page:
            found = list(masks.values())
            write_panels(outputs.path("thumbnails", image_id), image, found, outputs.palette)
            numbers = measure(found[-1], merged, scores, labels, outputs.min_score)
            write_numbers(outputs.path("numbers", image_id), numbers)
        # ID.png last: where it exists, so do the others
        for kind, mask in reversed(masks.items()):
            write_mask(outputs.path(kind, image_id), mask, outputs.palette)
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write the results of {image_id} below {outputs.folder}: "
            f"{error.strerror or error}"
        ) from error
    except Exception as error:
        raise RuntimeError(f"the results of {image_id} could not be made: {error}") from error


def _masks_of(outputs: Outputs, image: np.ndarray, merged: np.ndarray) -> dict[str, np.ndarray]:
    """H×W class indices without and, if wanted, with CRF, by their kind."""
    limit = (outputs.min_confidence, outputs.ignore_index)
    masks = {"masks": label_map(merged, *limit)}
    if outputs.crf:
        refined = crf_inference(image, merged, present_only=outputs.crf_present_only)
        masks["masks with CRF"] = label_map(refined, *limit)
    return masks


MAX_BYTES = 1 << 30
"""Of merged masks that workers hold or that wait for them: 68 images of VOC, or one photograph."""


@contextmanager
def result_writer(outputs: Outputs, workers: int) -> Iterator[Callable[..., None]]:
    """Give a function that takes `write_result`'s arguments but the first, and has a worker do it.

    With 0 workers it writes by itself. At most two results a worker wait, and no more than
    `MAX_BYTES`, but at least one; then the function blocks. An error of a worker is raised by the
    next call, or when the context ends, which is when all is written; results that still wait are
    then dropped.

    Raises:
        UserError: see `write_result`; or a worker died, or none can be started.
        RuntimeError: see `write_result`.
    """
    if workers == 0:
        yield partial(write_result, outputs)
        return

    pool = process_pool(workers, "give --workers 0, which needs none")
    pending: dict[Future[None], tuple[str, int]] = {}  # id, and bytes of the merged masks

    def collect(max_pending: int, max_bytes: int) -> None:
        """Wait until no more than that is pending; raise the errors of workers that are done."""
        while True:
            for future in [future for future in pending if future.done()]:
                future.result()
                del pending[future]
            size = sum(nbytes for _, nbytes in pending.values())
            if not pending or (len(pending) <= max_pending and size <= max_bytes):
                return
            wait(pending, return_when=FIRST_COMPLETED)

    def submit(image_id: str, image: np.ndarray, merged: np.ndarray, *more: Any) -> None:
        packed = _packed(merged)  # most of 81 masks are not worth their way to the process
        # the process may need all of them, as for a CRF over all classes
        collect(2 * workers - 1, MAX_BYTES - merged.nbytes)
        with interrupts_held_back():  # this may start a process
            future = pool.submit(_write_packed, outputs, image_id, image, packed, *more)
            pending[future] = image_id, merged.nbytes

    try:
        yield submit
        collect(0, 0)
    except BrokenProcessPool as error:
        names = [image_id for image_id, _ in pending.values()]
        images = f", at work on {' or '.join(names)}" if names else ""
        raise UserError(
            f"a process that makes masks died, perhaps for want of memory{images}; try fewer "
            "--workers, or --workers 0 to see why"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write_packed(
    outputs: Outputs,
    image_id: str,
    image: np.ndarray,
    packed: tuple[np.ndarray, np.ndarray, int],
    *more: Any,
) -> None:
    """`write_result` of packed masks."""
    write_result(outputs, image_id, image, _whole(*packed), *more)


def _packed(merged: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """C×H×W masks as those K that are not 0 everywhere, their K classes, and C."""
    present = np.flatnonzero(merged.any(axis=(1, 2)))
    return merged[present], present, len(merged)


def _whole(masks: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """The C×H×W masks that `_packed` has packed."""
    whole = np.zeros((num_classes, *masks.shape[1:]), dtype=np.float32)
    whole[classes] = masks
    return whole


def save_probabilities(path: str | Path, merged: np.ndarray) -> None:
    """Write C×H×W float32 merged masks as a compressed .npz, in one step.

    It holds `masks` (K×H×W, those of the K classes that are not 0 everywhere), `classes` (their K
    indices) and `num_classes` (C). They stay float32: half of that would make near classes equal,
    and the argmax of what is read another one than what was written.
    """
    masks, classes, num_classes = _packed(merged)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, masks=masks, classes=classes, num_classes=np.array(num_classes))


def load_probabilities(path: str | Path) -> np.ndarray:
    """Read what `save_probabilities` has written: C×H×W float32 merged masks, background first.

    They are as the network's views were merged, after TEST.BG_POW; their argmax is ID.png (but
    where TEST.MIN_CONFIDENCE left a pixel out), and `utils.crf.crf_inference` takes them.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path) as file:
            return _whole(file["masks"], file["classes"], int(file["num_classes"]))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; infer_val.py --save-probabilities writes such files"
        ) from error
    except (OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise UserError(
            f"{path} cannot be read as merged masks ({error}); infer this image again with "
            "--save-probabilities"
        ) from error
