"""A run's figures for Prometheus, through the exporter that Ray has on every node.

Ray puts ``ray_`` before each name.  The driver alone reports, from the events that it sees
anyway; workers report nothing.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from shardcam.engine.rundir.events import ShardDone, WorkerLost, WorkerRecycled, WorkerStarted
from shardcam.engine.types import Event


class RayMetrics:
    """Counts events; `count` is an observer (`engine.protocols.Observer`).

    Parameters
    ----------
    shards
        Number of shards to do.
    """

    def __init__(self, shards: int) -> None:
        self._left = shards
        self._workers: set[str] = set()
        self._images = Counter("shardcam_images_total", "Images of finished shards.")
        self._failed = Counter("shardcam_failed_total", "Of them, those that failed.")
        self._seconds = Counter(
            "shardcam_stage_seconds_total", "Seconds of each stage, all workers.", ("stage",)
        )
        self._lost = Counter("shardcam_workers_lost_total", "Workers that died or hung.")
        self._shards_left = Gauge("shardcam_shards_left", "Shards that are not done.")
        self._alive = Gauge("shardcam_workers", "Workers that are ready or work.")
        self._shards_left.set(shards)
        self._alive.set(0)

    def count(self, event: Event) -> None:
        if isinstance(event, ShardDone):
            self._done(event)
        elif isinstance(event, WorkerStarted):
            self._workers.add(event.worker)
            self._alive.set(len(self._workers))
        elif isinstance(event, WorkerLost | WorkerRecycled):
            self._workers.discard(event.worker)
            self._alive.set(len(self._workers))
            if isinstance(event, WorkerLost):
                self._lost.inc()

    def _done(self, shard: ShardDone) -> None:
        self._left -= 1
        self._shards_left.set(self._left)
        for counter, value in ((self._images, shard.images), (self._failed, shard.failed)):
            if value:
                counter.inc(value)
        for stage, spent in shard.seconds.items():
            if spent > 0:
                self._seconds.inc(spent, {"stage": stage})
