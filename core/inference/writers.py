"""Results are made and written in processes apart, while the network works on the next image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from core.inference.results import Outputs, Result, write_result
from utils.errors import UserError
from utils.processes import interrupts_held_back, process_pool

MOST_BYTES = 1 << 30
"""Of the merged masks that wait or are at work: those of 68 images of VOC, of one from a camera."""


@contextmanager
def result_writer(outputs: Outputs, workers: int) -> Iterator[Callable[[Result], None]]:
    """Give a function that hands a result to `workers` processes to write (0: writes it itself).

    At most two results a worker wait, and no more than `MOST_BYTES`, but at least one; then the
    function blocks. An error of a worker is raised by the next call, or when the context ends,
    which is when all is written; results that still wait are then dropped.

    Raises:
        UserError: see `write_result`; or a worker died, or none can be started.
        RuntimeError: see `write_result`.
    """
    if workers == 0:
        yield lambda result: write_result(result, outputs)
        return

    pool = process_pool(workers, "give --workers 0, which needs none")
    pending: dict[Future[None], Result] = {}

    def collect(most: int, most_bytes: int) -> None:
        """Wait until no more than that is pending; raise the errors of what has ended."""
        while True:
            for future in [future for future in pending if future.done()]:
                future.result()
                del pending[future]
            size = sum(result.merged.nbytes for result in pending.values())
            if not pending or (len(pending) <= most and size <= most_bytes):
                return
            wait(pending, return_when=FIRST_COMPLETED)

    def submit(result: Result) -> None:
        collect(2 * workers - 1, MOST_BYTES - result.merged.nbytes)
        with interrupts_held_back():  # this may start a process
            pending[pool.submit(write_result, result, outputs)] = result

    try:
        yield submit
        collect(0, 0)
    except BrokenProcessPool as error:
        names = [result.id for result in pending.values()]
        images = f", at work on {' or '.join(names)}" if names else ""
        raise UserError(
            f"a process that makes masks died, perhaps for want of memory{images}; try fewer "
            "--workers, or --workers 0 to see why"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
