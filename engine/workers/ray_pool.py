"""The workers of a run on Ray: started, given shards, watched and replaced.

Ray restarts nothing by itself: this driver knows which worker held which shard and how far it
was, and `engine.workers.retry_queue` decides what becomes of a shard whose worker crashed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from shardcam.engine.errors import InternalError, ShardcamError, WorkerError
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import (
    ClusterShared,
    ShardDone,
    ShardStarted,
    WorkerLost,
    WorkerRecycled,
    WorkerStarted,
    WorkerWaiting,
)
from shardcam.engine.types import Shard, ShardReport
from shardcam.engine.workers.awake_clock import AwakeClock
from shardcam.engine.workers.ray_cluster import RayOptions, worker_capacity
from shardcam.engine.workers.ray_deaths import death_reason, node_loss, node_lost
from shardcam.engine.workers.ray_heartbeats import Heartbeats
from shardcam.engine.workers.ray_internals import draining_nodes
from shardcam.engine.workers.ray_sharing import Share, Sharing
from shardcam.engine.workers.ray_worker import WorkerActor
from shardcam.engine.workers.retry_queue import RetryQueue
from shardcam.engine.workers.shard_descriptor import pack
from shardcam.engine.workers.worker_state import WorkerState

START_FAILURES = 3  # workers in a row that die while starting, before no more are started
_POLL = 0.5  # seconds until a signal is seen
_CAPACITY_INTERVAL = 5.0  # seconds between looks at the size of the cluster
_START_PATIENCE = 10.0  # seconds after which a worker that has not started is reported


class WorkerPool:
    """The workers of one run, and the shards they hold.

    Parameters
    ----------
    build
        Makes the runner in each worker.
    options
        Number and size of the workers.
    retries
        The shards.
    on_event
        Is called with what happens to workers and shards.
    """

    def __init__(
        self,
        build: Callable[[], ShardRunner],
        options: RayOptions,
        retries: RetryQueue,
        on_event: Observer,
    ) -> None:
        self._build, self._options = build, options
        self._retries, self._on_event = retries, on_event
        self._workers: dict[Any, WorkerState] = {}  # by the call that waits for its result
        self._clock = AwakeClock()  # or a driver that was stopped takes its absence for theirs
        self._heartbeats = Heartbeats(on_event, self._clock)
        self._waiting: list[Shard] = []  # for workers that start; the first that is free takes one
        self._started = 0
        self._failed_starts = 0
        self._sharing, self._share = Sharing(options), Share(0, 0, needed=False)
        self._capacity = 0  # workers that there is room for
        self._capacity_checked = 0.0
        self._draining: frozenset[str] = frozenset()  # nodes that will be gone
        self._workers_checked = 0.0

    def run(self, stopped: Callable[[], bool]) -> Iterator[ShardReport]:
        """Yield reports until every shard is done, or `stopped`."""
        while not stopped():
            self._refresh_capacity(self._clock())
            self._scale_up()
            if not self._waiting and not any(worker.shard for worker in self._workers.values()):
                return
            for call in self._answered():
                if call in self._workers:
                    yield from self._on_answer(call)
                elif call in self._heartbeats.pending:
                    self._heartbeats.on_heartbeat(call)
            self._check_workers()

    def _answered(self) -> list[Any]:
        """Every call that has come back; waits for the first."""
        calls = [*self._workers, *self._heartbeats.pending]
        first, others = ray.wait(calls, num_returns=1, timeout=_POLL)
        if not first or not others:
            return list(first)
        more, _ = ray.wait(others, num_returns=len(others), timeout=0)
        return [*first, *more]

    def _refresh_capacity(self, now: float) -> None:
        if now - self._capacity_checked > _CAPACITY_INTERVAL:
            self._capacity_checked = now
            self._capacity = max(worker_capacity(self._options), 1)
            self._draining = draining_nodes()
            self._refresh_share()

    def _refresh_share(self) -> None:
        """Find the run's share of the cluster; of what is too much, what still waits goes now."""
        wanted = min(self._options.workers or self._capacity, self._retries.left)
        ready = sum(worker.node is not None for worker in self._workers.values())
        before, self._share = self._share, self._sharing.update(wanted, ready)
        runs, workers = self._share.runs, self._share.workers
        if (runs or before.runs) and (runs, workers) != (before.runs, before.workers):
            self._on_event(ClusterShared(runs, workers))
        if not runs:
            return
        for call, worker in list(self._workers.items()):
            starts = worker.shard is None and worker.progressed is None
            if starts and len(self._workers) > self._most:
                del self._workers[call]
                self._on_event(WorkerRecycled(worker.name, 0))
                self._stop(worker)

    @property
    def _most(self) -> int:
        """Workers that the run may have."""
        most = self._options.workers or self._capacity
        return min(most, self._share.workers) if self._share.runs else most

    @property
    def _starts_in_vain(self) -> bool:
        """Whether the last that were started died, and others work."""
        return self._failed_starts >= START_FAILURES and self._some_work

    @property
    def _some_work(self) -> bool:
        return any(worker.node is not None for worker in self._workers.values())

    def _scale_up(self) -> None:
        """Keep a shard for each worker that starts; start more while there is room for them."""
        while True:
            starting = sum(worker.shard is None for worker in self._workers.values())
            more = len(self._workers) < self._most and not self._starts_in_vain
            while len(self._waiting) < starting + more:
                shard = self._retries.take()
                if shard is None:
                    return
                self._waiting.append(shard)
            if not more:
                return
            self._start_worker()

    def _start_worker(self) -> None:
        self._started += 1
        actor = WorkerActor.options(
            num_cpus=self._options.cpus_per_worker,
            num_gpus=self._options.gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        started = actor.start.remote(self._build, self._options)
        self._workers[started] = WorkerState(actor, f"worker-{self._started}", self._clock())

    def _on_answer(self, call: Any) -> Iterator[ShardReport]:
        """Take the outcome of a call; give its worker the next shard, or replace it."""
        worker = self._workers.pop(call)
        try:
            outcome = ray.get(call)
        except RayTaskError as error:
            if isinstance(error.cause, (ShardcamError, InternalError)):
                raise error.cause from None
            raise
        except RayError as error:  # it crashed, its node is gone, memory ran out
            self._stop(worker)  # it may be out of reach only
            lost = node_lost(error, worker.node)
            self._on_lost(worker, node_loss(worker.host) if lost else death_reason(error), lost)
            return
        if worker.shard is None:
            self._on_start(worker, outcome)
            report = None
        else:
            report = self._on_result(worker, worker.shard, outcome)
        self._assign(worker)
        if report is not None:
            yield report

    def _on_start(self, worker: WorkerState, facts: dict[str, Any]) -> None:
        self._failed_starts = 0
        worker.node, worker.host = facts["node"], facts["host"]
        seconds = round(time.monotonic() - worker.asked, 2)
        self._on_event(WorkerStarted(worker.name, **facts, seconds=seconds))

    def _on_result(
        self, worker: WorkerState, shard: Shard, result: ShardReport
    ) -> ShardReport | None:
        worker.shards_done += 1
        report = self._retries.on_result(shard, result)
        if report is not None:
            seconds = time.monotonic() - worker.asked
            self._on_event(ShardDone.of(worker.name, report, seconds))
        return report

    def _assign(self, worker: WorkerState) -> None:
        """Give a free worker its next shard, or let it go."""
        old = worker.shards_done >= self._options.recycle
        if old or worker.node in self._draining or self._gives_way():
            if worker.next_shard is not None:
                self._retries.put_back(worker.next_shard)
            self._on_event(WorkerRecycled(worker.name, worker.shards_done))
            self._stop(worker)
            return
        shard = self._shard_for(worker)
        if shard is None:
            self._stop(worker)
            return
        known = shard is worker.next_shard  # it was sent before
        worker.shard, worker.pulse = shard, None
        worker.since, worker.asked = self._clock(), time.monotonic()
        worker.next_shard = self._retries.take_next(shard)
        self._on_event(ShardStarted.of(worker.name, shard))
        ahead = None if worker.next_shard is None else pack(worker.next_shard)
        self._workers[worker.actor.run.remote(None if known else pack(shard), ahead)] = worker

    def _gives_way(self) -> bool:
        """Whether a worker that is free should make room for another run's."""
        return self._share.needed and len(self._workers) + 1 > self._most

    def _shard_for(self, worker: WorkerState) -> Shard | None:
        """The one it prefetched, one that waits, or one that another worker only prefetched."""
        if worker.next_shard is not None:
            return worker.next_shard
        shard = self._waiting.pop(0) if self._waiting else self._retries.take()
        if shard is not None:
            return shard
        other = next((w for w in self._workers.values() if w.next_shard is not None), None)
        if other is None:
            return None
        shard, other.next_shard = other.next_shard, None
        return shard

    def _on_lost(self, worker: WorkerState, reason: str, with_node: bool = False) -> None:
        """A worker is gone. Its shard goes to another one, a limited number of times."""
        shard = None if worker.shard is None else worker.shard.index
        self._on_event(WorkerLost(worker.name, reason, shard, with_node))
        if worker.next_shard is not None:
            self._retries.put_back(worker.next_shard)
        if worker.shard is None:
            self._failed_starts += not with_node
            if self._failed_starts >= START_FAILURES and not self._some_work:
                raise WorkerError(
                    f"{START_FAILURES} workers died while starting: {reason}; shardcam doctor "
                    "looks for what is missing, --executor local works without them"
                )
        elif with_node:
            self._retries.on_node_lost(worker.shard, reason)
        else:
            self._retries.on_crash(worker.shard, reason)

    def _check_workers(self) -> None:
        """Send heartbeats, report workers that do not start, replace those that hang."""
        now = self._clock()
        if now - self._workers_checked < _POLL:
            return
        self._workers_checked = now
        self._heartbeats.request(self._workers.values(), now)
        self._report_waiting(now)
        for call, worker in list(self._workers.items()):
            if worker.stalled(now) > self._options.hang_timeout:
                del self._workers[call]
                self._stop(worker)
                stage = worker.pulse.stage if worker.pulse else "start"
                seconds = self._options.hang_timeout
                self._on_lost(worker, f"no progress for {seconds:g} s in stage {stage!r}")

    def _report_waiting(self, now: float) -> None:
        waiting = [
            worker
            for worker in self._workers.values()
            if worker.progressed is None
            and now - worker.since > _START_PATIENCE
            and not worker.reported_waiting
        ]
        for worker in waiting:
            worker.reported_waiting = True
        if waiting:
            resource = "GPUs" if self._options.gpus_per_worker else "CPUs"
            self._on_event(WorkerWaiting(len(waiting), resource))

    def end(self, workers: bool) -> None:
        """Tell other runs that this one ends; with `workers`, end them, whatever they do."""
        if workers:
            for worker in self._workers.values():
                self._stop(worker)
            self._workers.clear()
        self._sharing.end()

    def _stop(self, worker: WorkerState) -> None:
        self._heartbeats.cancel(worker)
        ray.kill(worker.actor)
