"""Prefetching in a background thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in a background thread while the one before it is in use."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        item = thread.submit(next, iterator, end).result()
        while item is not end:
            following = thread.submit(next, iterator, end)
            yield item
            item = following.result()
