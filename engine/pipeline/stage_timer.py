"""How long each stage of a shard took, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimer:
    """Adds up wall-clock seconds by stage name; another thread may read it meanwhile.

    Parameters
    ----------
    on_batch
        Gets the number of images done so far, after each batch.
    on_pass
        Gets the number of passes begun so far, with each.
    """

    def __init__(
        self,
        on_batch: Callable[[int], None] = lambda images: None,
        on_pass: Callable[[int], None] = lambda passes: None,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.current = "start"  # the stage that runs, or ran last
        self.images = 0  # done so far
        self.passes = 0  # of the network or a part of it
        self._on_batch, self._on_pass = on_batch, on_pass

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside the `with`."""
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def pass_begun(self) -> None:
        """Count one more pass of the network, or of a part of it."""
        self.passes += 1
        self._on_pass(self.passes)

    def batch_done(self, images: int) -> None:
        """Count `images` more as done or failed."""
        self.images += images
        self._on_batch(self.images)
