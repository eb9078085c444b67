"""Batches of pictures at their own size: neighbours that have the same one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import repeat

from shardcam.engine.pipeline.prefetch import ITS_OWN, TOGETHER, Batch, BatchLoader, Tried
from shardcam.engine.types import Failure, Sample, Shard, View

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Refusal:
    """Why the network cannot take pictures of a size."""

    error: str  # short, to group by
    message: str


@dataclass(frozen=True)
class SizedLoader(BatchLoader):
    """Makes batches of pictures that keep their size; `batch_size` is the most of a batch."""

    rows_for: Callable[[int, int], int] = lambda height, width: 1
    refuse: Callable[[int, int], Refusal | None] = lambda height, width: None

    def batches(self, shard: Shard) -> Generator[Batch, None, None]:
        """Cut a shard where the size of its pictures changes, or a batch is full."""
        given_up = {failure.sample for failure in shard.given_up}
        wanted = [sample for sample in shard.samples if sample.index not in given_up]
        return self._grouped(wanted, len(given_up))

    def _grouped(self, samples: Sequence[Sample], given_up: int) -> Generator[Batch, None, None]:
        held: list[Tried] = []
        sizes: list[Size] = []  # of the pictures among them: all are the same
        with closing(self.tried(samples, repeat(ITS_OWN))) as load:
            for one in map(self._admitted, load):
                size = _size(one)
                if size and sizes and size != sizes[0]:
                    yield self._sized(held, given_up, sizes)
                    held, sizes, given_up = [], [], 0
                held.append(one)
                sizes += [size] if size else []
                if len(sizes or held) == (self._room(sizes[0]) if sizes else TOGETHER):
                    yield self._sized(held, given_up, sizes)
                    held, sizes, given_up = [], [], 0
        if held or given_up:
            yield self._sized(held, given_up, sizes)

    def _room(self, size: Size) -> int:
        return min(self.rows_for(*size), self.batch_size)

    def _admitted(self, one: Tried) -> Tried:
        """A picture of a size that the network takes, or a failure."""
        size = _size(one)
        refusal = self.refuse(*size) if size else None
        if refusal is None:
            return one
        sample = one.sample
        why = Failure(sample.key, sample.index, "decode", refusal.error, refusal.message)
        return replace(one, found=why)

    def _sized(self, held: Sequence[Tried], given_up: int, sizes: Sequence[Size]) -> Batch:
        batch = self._batch(len(held) + given_up, held)
        return replace(batch, room=self._room(sizes[0])) if sizes else batch


def _size(one: Tried) -> Size | None:
    """Height and width of a picture; None of a failure."""
    if not isinstance(one.found, View):
        return None
    height, width = one.found.pixels.shape[:2]
    return height, width
