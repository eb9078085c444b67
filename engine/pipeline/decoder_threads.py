"""Decoding in several threads: in order, and with few pictures in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Decoders:
    """Threads that decode pictures.

    Parameters
    ----------
    threads
        1: the caller decodes by itself.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "decoder") if threads > 1 else None

    def map(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """`work` on each item, in order; of several threads each has an item and one that waits.

        Items are taken by the caller's thread, and what `work` raises is raised in its turn.
        """
        if self._pool is None:
            yield from map(work, items)
            return
        begun: deque[Future[_Result]] = deque()
        try:
            for item in items:
                begun.append(self._pool.submit(work, item))
                if len(begun) == 2 * self.threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


@cache
def decoders(threads: int = 1) -> Decoders:
    """The decoders of this process, made once for a number of threads."""
    return Decoders(threads)
