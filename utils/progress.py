"""Progress of long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

BYTE_LINES_EVERY = 10.0
"""Seconds between two lines about bytes."""
LINES_IN_A_LOG = 20
"""About how many progress lines the work on a list prints to a log."""
CHUNK = 1 << 20
"""Bytes to read and write at a time: few enough that they show, many enough to be quick."""


def track(
    items: Iterable[T],
    total: int,
    unit: str,
    description: str,
    every: int = 10,
    status: Callable[[], str] = str,
    weigh: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yield `items` and report progress, rate and status on stderr.

    Args:
        items: what is worked on.
        total: how many units they hold.
        unit: the name of one, in the singular.
        description: what the work is.
        every: without a terminal, the number of items between two lines.
        status: gives the text after the rate, such as the current loss.
        weigh: the units in an item, as the images of a batch; an item is one unless told otherwise.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=unit, desc=description) as bar:
            for item in items:
                yield item
                bar.set_postfix_str(status(), refresh=False)
                bar.update(weigh(item))
        return
    start = time.monotonic()
    done = 0
    for count, item in enumerate(items, start=1):
        yield item
        done += weigh(item)
        if count % every == 0 or done == total:
            pace = _pace(done, total - done, time.monotonic() - start, unit)
            line = f"{description}: {done}/{total}, {pace}"
            print(", ".join(filter(None, (line, status()))), file=sys.stderr, flush=True)


@contextmanager
def track_bytes(
    total: int | None, description: str, start: int = 0
) -> Iterator[Callable[[int], object]]:
    """Give a function to call with each number of bytes processed; report progress on stderr.

    Args:
        total: the bytes of the whole, if that is known.
        description: what the work is.
        start: how many of them were done before; the rate leaves them out.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=description) as bar:
            yield bar.update
        return
    begun = shown = time.monotonic()
    done = 0

    def line() -> str:
        whole, left = "", None
        if total is not None:
            whole, left = f"/{total / 1e6:.0f}", max(total - start - done, 0) / 1e6
        pace = _pace(done / 1e6, left, time.monotonic() - begun, "MB")
        return f"{description}: {(start + done) / 1e6:.0f}{whole} MB, {pace}"

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if done and time.monotonic() - shown >= BYTE_LINES_EVERY:
            shown = time.monotonic()
            print(line(), file=sys.stderr, flush=True)

    yield advance
    if done:
        print(line(), file=sys.stderr, flush=True)


def _pace(done: float, left: float | None, seconds: float, unit: str) -> str:
    # a coarse clock may not have moved yet
    seconds = max(seconds, 1e-9)
    rate = f"{done / seconds:.2f} {unit}/s"
    return rate if left is None else f"{rate}, {seconds / done * left:.0f} s left"
