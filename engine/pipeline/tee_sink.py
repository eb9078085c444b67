"""Several sinks as one. The last one's commit decides, so it should be the one that counts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from shardcam.engine.protocols import ShardWriter, Sink
from shardcam.engine.types import Failure, ResultBatch, Shard


class TeeSink:
    """Hands every batch to each sink, in order."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def open(self, shard: Shard) -> ShardWriter:
        writers = []
        with ExitStack() as opened:
            for sink in self._sinks:
                writers.append(sink.open(shard))
                opened.callback(writers[-1].discard)
            opened.pop_all()
        return _TeeWriter(writers)


class _TeeWriter:
    def __init__(self, writers: list[ShardWriter]) -> None:
        self._writers = writers

    def write(self, batch: ResultBatch) -> None:
        for writer in self._writers:
            writer.write(batch)

    def commit(self, failures: Iterable[Failure]) -> bool:
        rows = list(failures)
        return [writer.commit(rows) for writer in self._writers][-1]

    def discard(self) -> None:
        for writer in self._writers:
            writer.discard()
