"""How far long work has come: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(
    items: Iterable[T],
    total: int,
    unit: str,
    description: str,
    every: int = 10,
    status: Callable[[], str] = str,
) -> Iterator[T]:
    """Yield `items` and show on stderr how many were worked off, at what rate, and the status.

    Args:
        items: what is worked on.
        total: how many they are.
        unit: the name of one, in the singular.
        description: what the work is.
        every: without a terminal, the number of items between two lines.
        status: called for words that stand behind the rate, such as the current loss.
    """
    if sys.stderr.isatty():
        with tqdm(items, total=total, unit=unit, desc=description) as bar:
            for item in bar:
                yield item
                bar.set_postfix_str(status(), refresh=False)
        return
    start = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done % every == 0 or done == total:
            # a coarse clock may not have moved yet
            seconds = max(time.monotonic() - start, 1e-9)
            left = seconds / done * (total - done)
            line = (
                f"{description}: {done}/{total}, {done / seconds:.2f} {unit}/s, {left:.0f} s left"
            )
            print(", ".join(filter(None, (line, status()))), file=sys.stderr, flush=True)
