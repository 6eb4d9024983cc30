"""The loop of inference: what the network says of every image, to disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from core.distributed import ALONE, Group
from core.inference.results import Outputs, Result
from core.inference.samples import Sample
from core.inference.writers import result_writer
from utils.errors import InterruptionError, UserError
from utils.progress import LINES_IN_A_LOG, track
from utils.signals import StoppedError, StopRequest


def infer(
    predictions: Iterable[tuple[Sample, np.ndarray]],
    count: int,
    outputs: Outputs,
    *,
    workers: int,
    group: Group = ALONE,
    stop: StopRequest | None = None,
) -> None:
    """Write what is wanted of the images of this process.

    Args:
        predictions: each image with its C×H×W float32 merged masks, made while this loop asks.
        count: how many there are for all processes of the group.
        outputs: what is written, and where.
        workers: processes for CRF and writing, shared among those of the group; 0 for none.
        group: its main process shows how far all are.
        stop: looked at after every image.

    Raises:
        UserError: an image or mask cannot be used, or results cannot be written.
        RuntimeError: something unforeseen went wrong while results were made; it names the image.
        StoppedError: it was requested; what was begun is written.
    """
    # a share of 0 would make the main process do the work, which the network needs
    share = max(1, workers // group.size) if workers else 0
    with result_writer(outputs, share) as write:
        for sample, merged in _track(predictions, count, group):
            if stop is not None and stop.signal is not None:
                raise StoppedError
            write(Result(sample.id, np.array(sample.image), merged, sample.ground_truth))


@contextmanager
def interruptible(group: Group) -> Iterator[StopRequest]:
    """Note Ctrl-C and SIGTERM during the body, and end it with a line that says how to go on.

    Raises:
        InterruptionError: in the main process; the others end without a word.
    """
    stop = StopRequest()
    try:
        with stop.listening():
            yield stop
    except (StoppedError, KeyboardInterrupt, UserError, RuntimeError) as error:
        # a signal to all processes may have ended workers or others of the group first
        if stop.signal is None:
            raise
        status = 128 + stop.signal
        if not group.is_main:
            raise SystemExit(status) from error
        raise InterruptionError(
            "interrupted; the same command with --skip-existing goes on with the images that are "
            "left",
            status,
        ) from error


def _track(
    predictions: Iterable[tuple[Sample, np.ndarray]], count: int, group: Group
) -> Iterator[tuple[Sample, np.ndarray]]:
    """The predictions; the main process shows how far the group is."""
    if not group.is_main:
        return iter(predictions)
    done = 0

    def weigh(_: object) -> int:
        # the others are about as far; their parts may be an image shorter
        nonlocal done
        step = min(group.size, count - done)
        done += step
        return step

    every = max(1, count // group.size // LINES_IN_A_LOG)
    return track(predictions, count, "image", "inference", every, weigh=weigh)
