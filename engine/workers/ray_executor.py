"""Shards on Ray actors, each with its own process, model and CPU cores.

A call carries a shard descriptor in and a small report out; pixels and maps never
enter Ray's object store.  Descriptors are taken as workers get free, so few are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint

from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import CoresShared, WorkersUnneeded
from shardcam.engine.types import Event, Shard, ShardReport
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.own_ray import OwnRay
from shardcam.engine.workers.ray_address import starts_own
from shardcam.engine.workers.ray_cluster import RayOptions, require_capacity, session
from shardcam.engine.workers.ray_metrics import RayMetrics
from shardcam.engine.workers.ray_pool import WorkerPool
from shardcam.engine.workers.retry_queue import RetryQueue
from shardcam.engine.workers.signals import PATIENCE, DeferredSignals


class RayExecutor:
    """Runs shards on Ray actors and replaces those that crash, hang or are old.

    Parameters
    ----------
    build
        Makes the runner in each worker. It travels by name, so it must be importable.
    options
        Number and size of the workers.
    may_exit
        End this process 20 s after a signal if Ray does not answer; for commands.
    own
        A Ray of our own that was started ahead, if any.
    """

    def __init__(
        self,
        build: Callable[[], ShardRunner],
        options: RayOptions,
        may_exit: bool = False,
        own: OwnRay | None = None,
    ) -> None:
        self._build = build
        self._options, self._own = options, own
        self._patience = PATIENCE if may_exit else None

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        here = starts_own(self._options.address)
        with (
            DeferredSignals(self._patience) as signals,
            session(self._options, self._own) as shared,
        ):
            signals.install()
            require_capacity(self._options)
            todo = length_hint(shards)
            metrics = RayMetrics(todo)

            def observe(event: Event) -> None:
                metrics.count(event)
                on_event(event)

            for limit in limits(self._options, todo, here):
                observe(limit)
            pool = WorkerPool(self._build, self._options, RetryQueue(shards, observe), observe)
            try:
                yield from pool.run(lambda: signals.pending)
            finally:
                pool.end(workers=shared)


def limits(options: RayOptions, shards: int, here: bool) -> Iterator[Event]:
    """What comes of more workers, or larger ones, than can be of use. `here`: on this machine."""
    if options.workers and options.workers > shards:
        yield WorkersUnneeded(options.workers, shards)
    asked, cores = min(options.workers or 1, shards) * options.cpus_per_worker, usable_cores()
    if here and asked > cores:
        yield CoresShared(asked, cores)
