"""What inference leaves on disk: masks, their CRF versions and pictures, made in processes apart.

Worker processes import this module; it stays free of PyTorch so that they start at once and small.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.files import write_mask
from utils.crf import crf_inference
from utils.drawing import blend, colorize, side_by_side
from utils.errors import UserError
from utils.files import atomic_path
from utils.processes import follow_main_process

CRF_FOLDER = "crf"
PICTURE_FOLDER = "vis"


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


def write_result(result: Result, folder: Path, palette: tuple[int, ...]) -> None:
    """Write ID.png, crf/ID.png and vis/ID.png below `folder`, each of them whole or not at all.

    The first two are palette PNGs of class indices, without and with CRF; the third is an RGB
    picture of both and, where there is one, the ground truth, each 0.7 of the palette's colours
    and 0.3 of the image.

    Raises:
        UserError: a file cannot be written, or pydensecrf is not installed.
    """
    prediction = result.merged.argmax(axis=0)
    refined = crf_inference(result.image, result.merged).argmax(axis=0)
    masks = [prediction, refined]
    if result.ground_truth is not None:
        masks.append(result.ground_truth)
    picture = side_by_side([blend(result.image, colorize(mask, palette), 0.7) for mask in masks])

    name = f"{result.id}.png"
    try:
        write_mask(folder / name, prediction, palette)
        write_mask(folder / CRF_FOLDER / name, refined, palette)
        with atomic_path(folder / PICTURE_FOLDER / name) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    except OSError as error:
        raise UserError(f"cannot write {name} below {folder}: {error.strerror or error}") from error


@contextmanager
def result_writer(
    folder: Path, palette: tuple[int, ...], workers: int
) -> Iterator[Callable[[Result], None]]:
    """Give a function that hands a result to `workers` processes to write (0: writes it itself).

    At most two results a worker wait; then the function blocks. An error of a worker is raised by
    the next call, or when the context ends, which is when all is written; results that still wait
    are then dropped.

    Raises:
        UserError: see `write_result`; or a worker died.
    """
    if workers == 0:
        yield lambda result: write_result(result, folder, palette)
        return

    # not fork: a copy of a process that uses CUDA or threads may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=follow_main_process)
    pending: set[Future[None]] = set()

    def collect(most: int) -> None:
        """Wait until at most `most` results are pending; raise the errors of those that ended."""
        while True:
            done = {future for future in pending if future.done()}
            pending.difference_update(done)
            for future in done:
                future.result()
            if len(pending) <= most:
                return
            wait(pending, return_when=FIRST_COMPLETED)

    def submit(result: Result) -> None:
        collect(most=2 * workers - 1)
        pending.add(pool.submit(write_result, result, folder, palette))

    try:
        yield submit
        collect(most=0)
    except BrokenProcessPool as error:
        raise UserError(
            "a process that makes masks died, perhaps for want of memory; try fewer --workers, "
            "or --workers 0 to see why"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
