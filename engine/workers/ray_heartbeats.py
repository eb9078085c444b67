"""Heartbeats: the driver asks each worker how far it is, so that one that hangs is noticed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import ray
from ray.exceptions import RayError

from shardcam.engine.protocols import Observer
from shardcam.engine.rundir.events import Progress
from shardcam.engine.workers.kernel_log import KERNELS
from shardcam.engine.workers.worker_state import Pulse, WorkerState

_INTERVAL = 2.0  # seconds between heartbeats of a worker, or more:
_PER_SECOND = 100  # of all workers together


class Heartbeats:
    """The heartbeats that wait for an answer."""

    def __init__(self, on_event: Observer, clock: Callable[[], float]) -> None:
        self._on_event, self._clock = on_event, clock
        self._told = ""
        self.pending: dict[Any, WorkerState] = {}  # by the call

    def request(self, workers: Collection[WorkerState], now: float) -> None:
        """Ask those workers whose turn it is."""
        interval = max(_INTERVAL, len(workers) / _PER_SECOND)
        for worker in workers:
            if worker.heartbeat is None and now - worker.heartbeat_sent > interval:
                worker.heartbeat, worker.heartbeat_sent = worker.actor.heartbeat.remote(), now
                self.pending[worker.heartbeat] = worker

    def on_heartbeat(self, call: Any) -> None:
        """Note how far a worker is that has answered."""
        worker = self.pending.pop(call)
        worker.heartbeat = None
        try:
            pulse: Pulse = ray.get(call)
        except RayError:  # the call that runs its shard fails too, and is dealt with
            return
        if worker.progressed is None or pulse != worker.pulse:
            worker.progressed = self._clock()
        worker.pulse = pulse
        if pulse.told and not self._told:  # by the first worker that compiles them
            self._told = pulse.told
            KERNELS.info(pulse.told)
        shard = worker.shard
        if shard is not None and not shard.trial and pulse.shard == shard.index:  # not the last one
            found = Progress(worker.name, shard.index, pulse.images, pulse.stage, pulse.passes)
            self._on_event(found)

    def cancel(self, worker: WorkerState) -> None:
        """Expect no answer from a worker any more."""
        self.pending.pop(worker.heartbeat, None)
