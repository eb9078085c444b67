"""Shards on Ray actors, each with its own process, model and CPU cores.

A call carries a shard descriptor in and a small report out; pixels and maps never
enter Ray's object store.  Descriptors are taken as workers get free, so few are in
memory.  Ray restarts nothing by itself: this driver knows which worker held which
shard, how far it was, and decides (:mod:`engine.workers.retry_queue`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from shardcam.engine.errors import InternalError, ShardcamError, WorkerError
from shardcam.engine.protocols import Observer, ShardRunner
from shardcam.engine.rundir.events import (
    Progress,
    ShardDone,
    ShardStarted,
    WorkerLost,
    WorkerRecycled,
    WorkerStarted,
    WorkerWaiting,
)
from shardcam.engine.types import Event, Shard, ShardReport
from shardcam.engine.workers.ray_cluster import (
    RayOptions,
    leaving,
    node_lost,
    reason,
    require_room,
    room,
    session,
)
from shardcam.engine.workers.ray_metrics import RayMetrics
from shardcam.engine.workers.ray_worker import WorkerActor
from shardcam.engine.workers.retry_queue import RetryQueue
from shardcam.engine.workers.shard_descriptor import pack
from shardcam.engine.workers.signals import DeferredSignals

START_FAILURES = 3  # workers in a row that may die while starting, before the run stops
_PATIENCE = 0.5  # seconds until a signal is seen
_PULSE = 2.0  # seconds between questions how far a worker is, or more:
_PULSES = 100  # questions a second, to all workers together
_CENSUS = 5.0  # seconds between looks at the size of the cluster
_WAITING = 10.0  # seconds after which a worker that does not start is told of


@dataclass
class _Held:
    """A worker, and what it holds: nothing while it starts, then one shard after another."""

    actor: Any
    name: str
    begun: float  # when it was asked for, or got its shard
    task: Shard | None = None
    ahead: Shard | None = None  # what it reads meanwhile
    node: str | None = None  # known once it answers
    shards: int = 0  # done
    pulse: Any = None  # the question that waits for its answer
    asked: float = 0.0
    seen: tuple[str, int, int] | None = None  # stage, images and passes, by the last answer
    moved: float | None = None  # when that last changed; None: it has not answered yet
    told: bool = False  # that it waits

    def stalled(self, now: float) -> float:
        """Seconds without progress."""
        return 0.0 if self.moved is None else now - max(self.moved, self.begun)


class RayExecutor:
    """Runs shards on Ray actors and replaces those that die, hang or are old.

    Parameters
    ----------
    build
        Makes the runner in each worker. It travels by name, so it must be importable.
    options
        Number and size of the workers.
    """

    def __init__(self, build: Callable[[], ShardRunner], options: RayOptions) -> None:
        self._build = build
        self._options = options

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        """See :class:`engine.protocols.Executor`."""
        with DeferredSignals() as signals, session(self._options):
            signals.install()
            require_room(self._options)
            metrics = RayMetrics(length_hint(shards))

            def told(event: Event) -> None:
                metrics(event)
                on_event(event)

            crew = _Crew(self._build, self._options, RetryQueue(shards, told), told)
            yield from crew.work(lambda: signals.pending)


class _Crew:
    """The workers of one run, and the shards they hold."""

    def __init__(
        self,
        build: Callable[[], ShardRunner],
        options: RayOptions,
        retries: RetryQueue,
        on_event: Observer,
    ) -> None:
        self._build, self._options = build, options
        self._retries, self._on_event = retries, on_event
        self._held: dict[Any, _Held] = {}  # by the call that waits for its result
        self._pulses: dict[Any, _Held] = {}  # by the question that waits for its answer
        self._queue: list[Shard] = []  # for workers that start; taken by whoever is free first
        self._made = 0
        self._failed_starts = 0
        self._counted = 0.0  # when the cluster was last looked at
        self._most = 0
        self._leaving: frozenset[str] = frozenset()  # nodes that will be gone
        self._watched = 0.0

    def work(self, stopped: Callable[[], bool]) -> Iterator[ShardReport]:
        """Until every shard is done or a signal has come."""
        while not stopped():
            self._census(time.monotonic())
            self._hire()
            if not self._queue and not any(held.task for held in self._held.values()):
                return
            for ref in self._answered():
                if ref in self._held:
                    yield from self._settle(ref)
                elif ref in self._pulses:
                    self._feel(ref)
            self._watch()

    def _answered(self) -> list[Any]:
        """Every call that has come back; waits for the first."""
        calls = [*self._held, *self._pulses]
        first, others = ray.wait(calls, num_returns=1, timeout=_PATIENCE)
        if not first or not others:
            return list(first)
        more, _ = ray.wait(others, num_returns=len(others), timeout=0)
        return [*first, *more]

    def _wanted(self) -> int:
        return self._options.workers or self._most

    def _census(self, now: float) -> None:
        """Nodes come and go."""
        if now - self._counted > _CENSUS:
            self._counted = now
            self._most, self._leaving = max(room(self._options), 1), leaving()

    def _hire(self) -> None:
        """Keep a shard for each worker that starts; start more while there is room for them."""
        while True:
            starting = sum(held.task is None for held in self._held.values())
            more = len(self._held) < self._wanted()
            while len(self._queue) < starting + more:
                shard = self._retries.take()
                if shard is None:
                    return
                self._queue.append(shard)
            if not more:
                return
            self._start_worker()

    def _start_worker(self) -> None:
        self._made += 1
        worker = WorkerActor.options(
            num_cpus=self._options.cpus_per_worker,
            num_gpus=self._options.gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        started = worker.start.remote(self._build, self._options)
        self._held[started] = _Held(worker, f"worker-{self._made}", time.monotonic())

    def _settle(self, ref: Any) -> Iterator[ShardReport]:
        """Take the outcome of a call; give its worker the next shard, or replace it."""
        held = self._held.pop(ref)
        try:
            outcome = ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, (ShardcamError, InternalError)):
                raise error.cause from None
            raise
        except RayError as error:  # it crashed, its node is gone, memory ran out
            self._end(held)  # it may be out of reach only
            self._gone(held, reason(error), with_node=node_lost(error, held.node))
            return
        report: ShardReport | None = None
        if held.task is None:
            self._failed_starts = 0
            held.node = outcome["node"]
            taken = round(time.monotonic() - held.begun, 2)
            self._on_event(WorkerStarted(held.name, **outcome, seconds=taken))
        else:
            held.shards += 1
            report = self._retries.on_result(held.task, outcome)
            if report is not None:
                taken = time.monotonic() - held.begun
                self._on_event(ShardDone.of(held.name, report, taken))
        self._hand_out(held)
        if report is not None:
            yield report

    def _hand_out(self, held: _Held) -> None:
        if held.shards >= self._options.recycle or held.node in self._leaving:
            if held.ahead is not None:
                self._retries.put_back(held.ahead)
            self._on_event(WorkerRecycled(held.name, held.shards))
            self._end(held)
            return
        shard = self._next_for(held)
        if shard is None:
            self._end(held)
            return
        known = shard is held.ahead  # it was sent before
        held.task, held.begun, held.seen = shard, time.monotonic(), None
        held.ahead = self._retries.take_next(shard)
        self._on_event(ShardStarted.of(held.name, shard))
        ahead = None if held.ahead is None else pack(held.ahead)
        self._held[held.actor.run.remote(None if known else pack(shard), ahead)] = held

    def _next_for(self, held: _Held) -> Shard | None:
        """What it has read ahead, or what waits, or what another one has only read ahead."""
        if held.ahead is not None:
            return held.ahead
        shard = self._queue.pop(0) if self._queue else self._retries.take()
        if shard is not None:
            return shard
        other = next((other for other in self._held.values() if other.ahead is not None), None)
        if other is None:
            return None
        shard, other.ahead = other.ahead, None
        return shard

    def _gone(self, held: _Held, why: str, with_node: bool = False) -> None:
        """A worker is no more. Its shard goes to another one, but not for ever."""
        shard = None if held.task is None else held.task.index
        self._on_event(WorkerLost(held.name, why, shard, with_node))
        if held.ahead is not None:
            self._retries.put_back(held.ahead)
        if held.task is None:
            self._failed_starts += not with_node
            if self._failed_starts >= START_FAILURES:
                raise WorkerError(f"{START_FAILURES} workers died while starting: {why}")
        elif with_node:
            self._retries.on_node_lost(held.task, why)
        else:
            self._retries.on_crash(held.task, why)

    def _feel(self, pulse: Any) -> None:
        """A worker has told how far it is."""
        held = self._pulses.pop(pulse)
        held.pulse = None
        try:
            seen: tuple[str, int, int] = ray.get(pulse)
        except RayError:  # its other call will tell
            return
        now = time.monotonic()
        if held.moved is None or seen != held.seen:
            held.moved = now
        held.seen = seen
        if held.task is not None and not held.task.trial:
            self._on_event(Progress(held.name, held.task.index, seen[1], seen[0]))

    def _watch(self) -> None:
        """Ask workers how far they are, and replace those that hang."""
        now, waiting = time.monotonic(), 0
        if now - self._watched < _PATIENCE:
            return
        self._watched = now
        every = max(_PULSE, len(self._held) / _PULSES)
        for ref, held in list(self._held.items()):
            if held.pulse is None and now - held.asked > every:
                held.pulse, held.asked = held.actor.pulse.remote(), now
                self._pulses[held.pulse] = held
            if held.moved is None and now - held.begun > _WAITING and not held.told:
                held.told, waiting = True, waiting + 1
            if held.stalled(now) > self._options.hang_timeout:
                del self._held[ref]
                self._end(held)
                stage = held.seen[0] if held.seen else "start"
                seconds = self._options.hang_timeout
                self._gone(held, f"no progress for {seconds:g} s in stage {stage!r}")
        if waiting:
            self._on_event(WorkerWaiting(waiting))

    def _end(self, held: _Held) -> None:
        self._pulses.pop(held.pulse, None)
        ray.kill(held.actor)
