"""How long each stage of a shard took, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Adds up wall-clock seconds by stage name; another thread may look at it meanwhile.

    Parameters
    ----------
    on_batch
        Is told the images done so far, after each batch.
    """

    def __init__(self, on_batch: Callable[[int], None] = lambda images: None) -> None:
        self.seconds: dict[str, float] = {}
        self.stage = "start"  # the one that runs, or ran last
        self.images = 0  # done so far
        self.passes = 0  # of the network or a part of it, that a method asked for
        self._on_batch = on_batch

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what happens inside the `with`."""
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Time that was taken elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def pass_begun(self) -> None:
        """A method runs the network, or a part of it, once more."""
        self.passes += 1

    def batch_done(self, images: int) -> None:
        """So many images more are done, or failed."""
        self.images += images
        self._on_batch(self.images)
