"""A run's figures for Prometheus, through the exporter that Ray has on every node.

Ray puts ``ray_`` before each name.  The driver alone reports, from the events that it hears
anyway; workers report nothing.
"""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge


class RayMetrics:
    """A listener (:class:`engine.protocols.Listener`) that counts.

    Parameters
    ----------
    shards
        How many there are to do.
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

    def __call__(self, kind: str, /, **facts: Any) -> None:
        """Count what has happened."""
        if kind == "shard_done":
            self._done(**facts)
        elif kind == "worker_started":
            self._workers.add(facts["worker"])
            self._alive.set(len(self._workers))
        elif kind in ("worker_lost", "worker_recycled"):
            self._workers.discard(facts["worker"])
            self._alive.set(len(self._workers))
            if kind == "worker_lost":
                self._lost.inc()

    def _done(self, images: int, failed: int, seconds: dict[str, float], **_: Any) -> None:
        self._left -= 1
        self._shards_left.set(self._left)
        for counter, value in ((self._images, images), (self._failed, failed)):
            if value:
                counter.inc(value)
        for stage, spent in seconds.items():
            if spent > 0:
                self._seconds.inc(spent, {"stage": stage})
