"""Forward passes that run ahead, so that the device is never idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from shardcam.engine.errors import bugs_named
from shardcam.engine.pipeline.prefetch import Batch, Prefetcher
from shardcam.engine.protocols import ForwardPass, Network, Timer
from shardcam.engine.types import Shard


class ForwardAhead:
    """Runs the forward passes of batches before their results are used.

    The first pass of the next shard is begun before this one is published, and with a network
    that holds the results of two passes each pass is begun before the maps of the last are made.

    Parameters
    ----------
    prefetcher
        Makes the batches.
    network
        Runs the passes, in the background.
    """

    def __init__(self, prefetcher: Prefetcher, network: Network) -> None:
        self._prefetcher, self._network = prefetcher, network
        self._ahead = network.buffers - 1  # begun before the results of one are used
        self._early: tuple[Batch, ForwardPass] | None = None  # of the shard that comes next

    def passes(
        self, shard: Shard, next_shard: Shard | None, timer: Timer
    ) -> Iterator[tuple[Batch, ForwardPass | None]]:
        """Every batch of a shard in order, with its pass if it has a picture.

        A pass is valid until the next batch is asked for.
        """
        begun: deque[tuple[Batch, ForwardPass | None]] = deque()
        batches = self._prefetcher.batches(shard, next_shard)
        while (batch := next_batch(batches, timer)) is not None:
            with timer.stage("forward"):
                begun.append((batch, self._begin(batch)))
            if len(begun) > self._ahead:
                yield begun.popleft()
        if self._ahead:
            self._begin_next()
        yield from begun
        self._begin_next()

    def _begin(self, batch: Batch) -> ForwardPass | None:
        early, self._early = self._early, None
        if early is not None and early[0] is batch:
            return early[1]
        if not batch.samples:
            return None
        with bugs_named(batch.samples):
            return self._network.forward(batch.images)

    def _begin_next(self) -> None:
        batch = self._prefetcher.first_of_next()
        if batch is not None and batch.samples and self._early is None:
            with suppress(Exception):  # it is tried again, and fails, where its shard is run
                self._early = batch, self._network.forward(batch.images)


def next_batch(batches: Iterator[Batch], timer: Timer) -> Batch | None:
    """Wait for the next batch, if there is one; the timer gets its own times too."""
    with timer.stage("wait"):
        batch = next(batches, None)
    if batch is not None:
        for stage, seconds in batch.seconds.items():
            timer.add(stage, seconds)
    return batch
