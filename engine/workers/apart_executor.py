"""Shards in a child process, for a run whose last command died while it worked.

What ends the child ends no command: `engine.workers.retry_queue` then finds the images that do,
as for the workers of Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from shardcam.engine.errors import InternalError, ShardcamError, bugs_named
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import Progress, ShardDone, ShardStarted, WorkerLost
from shardcam.engine.types import Shard, ShardReport
from shardcam.engine.workers.child_process import ChildProcess
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.retry_queue import RetryQueue
from shardcam.engine.workers.shard_descriptor import pack, unpack
from shardcam.engine.workers.threads import limit_threads

NAME = "child"


class ApartExecutor:
    """Runs every shard in a child process, and replaces that when it dies.

    Parameters
    ----------
    build
        Makes the runner in the child. It travels by name, so it must be importable.
    """

    def __init__(self, build: Callable[[], ShardRunner]) -> None:
        self._build = build

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        retries = RetryQueue(shards, on_event)
        child: _Child | None = None
        try:
            while (shard := retries.take()) is not None:
                child = child or _Child(self._build)
                on_event(ShardStarted.of(NAME, shard))
                begun = time.perf_counter()
                try:
                    result = child.run(shard, on_event)
                except EOFError:
                    reason, child = child.end(), None
                    on_event(WorkerLost(NAME, reason, shard.index, node_lost=False))
                    retries.on_crash(shard, reason)
                    continue
                report = retries.on_result(shard, result)
                if report is not None:
                    on_event(ShardDone.of(NAME, report, time.perf_counter() - begun))
                    yield report
        finally:
            if child is not None:
                child.end()


class _Child:
    """The child process, which has loaded the model."""

    def __init__(self, build: Callable[[], ShardRunner]) -> None:
        self._process = ChildProcess(serve)
        try:
            self._process.pipe.send(build)
            self._receive()
        except (EOFError, OSError) as error:
            raise self._process.not_started() from error
        except BaseException:
            self.end()
            raise

    def run(self, shard: Shard, on_event: Observer) -> ShardReport:
        """Run a shard.

        Raises
        ------
        EOFError
            The process has died.
        """
        try:
            self._process.pipe.send(pack(shard))
            while isinstance(found := self._receive(), int):
                on_event(Progress(NAME, shard.index, found))
        except ConnectionError as error:
            raise EOFError from error
        assert isinstance(found, ShardReport)
        return found

    def _receive(self) -> Any:
        found = self._process.pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def end(self) -> str:
        """End the process if it runs; of what it died."""
        return self._process.end()


def serve(driver: Connection) -> None:
    """Be the child: build a runner, and run shards until the driver has no more."""
    limit_threads(usable_cores())
    try:
        with bugs_named():
            runner = driver.recv()()
        driver.send(None)
        while True:
            shard = unpack(driver.recv())
            with bugs_named(shard.samples):
                report = runner.run(shard, StageTimer(driver.send))
            driver.send(report)
    except (ShardcamError, InternalError) as error:
        driver.send(error)
    except EOFError:
        return
