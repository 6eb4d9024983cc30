"""Work spread over processes that exit when the main process does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from utils.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

FEW_ITEMS = 300
"""For fewer items, starting other processes takes longer than the work."""


def available_cpus() -> int:
    """How many CPUs this process may use, which schedulers and containers limit."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no such call
        return os.cpu_count() or 1


@contextmanager
def process_map(
    function: Callable[[T], R], items: Sequence[T], workers: int, chunksize: int
) -> Iterator[Iterator[R]]:
    """Give an iterator over `function(item)` of all items, in their order.

    Leaving the context before the end, as an error or Ctrl-C does, drops what no process has begun.

    Args:
        function: a function of a module, or a `partial` of one.
        items: what it is called with.
        workers: how many processes share the work; with 1, or with few items, this one does it.
        chunksize: items that a process takes at a time.

    Raises:
        UserError: a worker died. What `function` raises is raised by the iterator.
    """
    if workers == 1 or len(items) <= FEW_ITEMS:
        yield map(function, items)
        return
    pool = process_pool(workers, "give --workers 1, which needs none")
    try:
        with interrupts_held_back():
            results = pool.map(function, items, chunksize=chunksize)
        yield results
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps for want of memory; try fewer --workers, or "
            "--workers 1 to see why"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def process_pool(workers: int, remedy: str) -> ProcessPoolExecutor:
    """A pool whose processes exit when the main process does.

    Raises:
        UserError: the system has no room for their locks, which are some 20 kB of shared memory;
            its line ends in `remedy`.
    """
    # not fork: a copy of a process that uses CUDA or threads may hang, and keeps its locks
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=follow_main_process)
    except OSError as error:
        raise UserError(
            f"cannot start {workers} processes ({error.strerror}), whose locks need some /dev/shm; "
            f"{remedy}"
        ) from error


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hide Ctrl-C from processes that the body starts; this one sees it afterwards.

    In the middle of their imports it would end in tracebacks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_main_process() -> None:
    """Make a worker process exit with the main process only; to be called in the worker."""
    # Ctrl-C reaches all processes of a terminal; the main one ends the others in good order
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after_main_process, daemon=True).start()


def _end_after_main_process() -> None:
    # a main process that is killed cannot end the others, which would wait for work for ever
    multiprocessing.parent_process().join()
    os._exit(1)
