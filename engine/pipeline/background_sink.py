"""A sink that writes in its own thread, so that compression does not hold up the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

from shardcam.engine.errors import bugs_named
from shardcam.engine.protocols import ShardWriter, Sink
from shardcam.engine.types import Failure, ResultBatch, Shard

WAITING = 2  # batches; more would only cost memory


class BackgroundSink:
    """Hands each batch to another sink, in order, while the caller goes on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def open(self, shard: Shard) -> ShardWriter:
        return _BackgroundWriter(self._sink.open(shard))


class _BackgroundWriter:
    """What goes wrong with a batch is raised by the next call, and by the commit at the latest."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._batches: queue.Queue[ResultBatch | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._write_all, name="writer", daemon=True)

    def write(self, batch: ResultBatch) -> None:
        self._raise()
        if self._thread.ident is None:  # not started
            self._thread.start()
        self._batches.put(batch)

    def commit(self, failures: Iterable[Failure]) -> bool:
        self._finish()
        self._raise()
        return self._writer.commit(failures)

    def discard(self) -> None:
        self._dropped = True
        try:
            self._finish()
        finally:  # once more, if Ctrl-C came meanwhile
            self._finish()
            self._writer.discard()

    def _write_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    with bugs_named(batch.samples):
                        self._writer.write(batch)
                except BaseException as error:  # the caller's to handle, whatever it is
                    self._error = error

    def _finish(self) -> None:
        """Wait until every batch is written, or dropped; harmless when done twice."""
        if self._thread.is_alive():
            self._batches.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
