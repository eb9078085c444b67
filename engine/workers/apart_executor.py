"""Shards in a child process.

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
from shardcam.engine.workers.kernel_log import KERNELS, KernelLog
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
    child
        A first one that was started ahead, if any.
    """

    def __init__(self, build: Callable[[], ShardRunner], child: Child | None = None) -> None:
        self._build, self._child = build, child

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        retries = RetryQueue(shards, on_event)
        child = self._child
        ahead: Shard | None = None  # which the child prefetches
        try:
            while (shard := ahead or retries.take()) is not None:
                child = child or Child()
                if not child.ready:
                    child.build(self._build)
                ahead = retries.take_next(shard)
                on_event(ShardStarted.of(NAME, shard))
                begun = time.perf_counter()
                try:
                    result = child.run(shard, ahead, on_event)
                except EOFError:
                    reason, child = child.end(), None
                    on_event(WorkerLost(NAME, reason, shard.index, node_lost=False))
                    if ahead is not None:
                        retries.put_back(ahead)
                        ahead = None
                    retries.on_crash(shard, reason)
                    continue
                report = retries.on_result(shard, result)
                if report is not None:
                    on_event(ShardDone.of(NAME, report, time.perf_counter() - begun))
                    yield report
        finally:
            if child is not None:
                child.end()


class Child:
    """A child process, in which a runner is built when there is a run.

    Parameters
    ----------
    first
        What it can do until then, such as imports. It travels by name.
    """

    def __init__(self, first: Callable[[], None] | None = None) -> None:
        self.ready = False  # it has a runner
        self._next: Shard | None = None  # which it was sent, and prefetches
        self._process = ChildProcess(serve)
        try:
            self._process.pipe.send(first)
        except OSError as error:
            raise self._process.not_started() from error

    def build(self, build: Callable[[], ShardRunner]) -> None:
        """Make a runner, which loads the model."""
        try:
            self._process.pipe.send(build)
            self._receive()
        except (EOFError, OSError) as error:
            raise self._process.not_started() from error
        except BaseException:
            self.end()
            raise
        self.ready = True

    def run(self, shard: Shard, next_shard: Shard | None, on_event: Observer) -> ShardReport:
        """Run a shard, and have the next one prefetched.

        Raises
        ------
        EOFError
            The process has died.
        """
        sent = None if shard is self._next else pack(shard)
        self._next = next_shard
        try:
            self._process.pipe.send((sent, None if next_shard is None else pack(next_shard)))
            while isinstance(found := self._receive(), int):
                on_event(Progress(NAME, shard.index, found))
        except ConnectionError as error:
            raise EOFError from error
        assert isinstance(found, ShardReport)
        return found

    def _receive(self) -> Any:
        while isinstance(found := self._process.pipe.recv(), str):
            KERNELS.info(found)
        if isinstance(found, Exception):
            raise found
        return found

    def end(self) -> str:
        """End the process if it runs; of what it died."""
        return self._process.end()


def serve(driver: Connection) -> None:
    """Be the child: build a runner, and run shards until the driver has no more."""
    limit_threads(usable_cores())
    KernelLog(driver.send)
    next_shard: Shard | None = None
    try:
        with bugs_named():
            if first := driver.recv():
                first()
            runner = driver.recv()()
        driver.send(None)
        while True:
            sent, ahead = driver.recv()
            shard = next_shard if sent is None else unpack(sent)
            assert shard is not None
            next_shard = None if ahead is None else unpack(ahead)
            with bugs_named(shard.samples):
                report = runner.run(shard, StageTimer(driver.send), next_shard)
            driver.send(report)
    except (ShardcamError, InternalError) as error:
        driver.send(error)
    except EOFError:
        return
