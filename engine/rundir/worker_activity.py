"""What the event log tells of the workers of a run's last command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardcam.engine.rundir.speed import Speed

LAST = 8  # shards of each worker that its speed is taken from
_GONE = ("worker_lost", "worker_recycled")


@dataclass
class WorkerActivity:
    """A worker that is there, and what it does. Times are in seconds since 1970."""

    worker: str
    host: str
    pid: int | None
    device: str  # CUDA_VISIBLE_DEVICES
    since: float  # when it was ready
    shard: int | None = None  # that it runs
    shard_since: float | None = None
    shards: int = 0  # that it has done
    images: int = 0  # of these
    images_per_second: float | None = None  # over its last shards


class Workers:
    """Those that are there; `add` takes one event of the log after the other.

    Parameters
    ----------
    driver
        The event with which the command began.

    Attributes
    ----------
    waiting : int
        How many more were asked for and wait for their place.
    resource : str
        What they wait for.
    """

    def __init__(self, driver: dict[str, Any]) -> None:
        self._drivers = {driver.get("part"): driver}
        self._there: dict[str, WorkerActivity] = {}
        self.waiting = 0
        self.resource = "CPUs or GPUs"
        self._speed = Speed(LAST)

    def join(self, driver: dict[str, Any]) -> None:
        """One more command begins, for a part of the run."""
        self._drivers[driver["part"]] = driver

    def every(self) -> list[WorkerActivity]:
        """In the order in which they came."""
        return [*self._there.values()]

    @property
    def images_per_second(self) -> float | None:
        """Of all together, over their last shards."""
        return self._speed.rate()

    def add(self, event: dict[str, Any]) -> None:
        """Take note of one more event."""
        kind, time, name = event["kind"], float(event["time"]), str(event.get("worker"))
        if kind == "worker_waiting":
            self.waiting += int(event.get("workers", 0))
            self.resource = str(event.get("resource", self.resource))
        elif kind == "worker_started":
            self.waiting -= self.waiting > 0
            self._start(name, event, time)
        elif kind == "shard_started":
            self._start(name, self._drivers.get(event.get("part"), {}), time)
        elif kind in _GONE or (kind == "run_ended" and "part" in event):
            if self._there.pop(name, None) is None:  # it had not started
                self.waiting -= self.waiting > 0
            self._speed.gone(name)
        worker = self._there.get(name)
        if worker is None:
            return
        if kind == "shard_started":
            worker.shard, worker.shard_since = event.get("shard"), time
        elif kind == "shard_done":
            images = int(event.get("images", 0))
            self._speed.add(name, images, time)
            worker.shard = worker.shard_since = None
            worker.shards, worker.images = worker.shards + 1, worker.images + images
            worker.images_per_second = self._speed.rate_of(name)

    def _start(self, name: str, facts: dict[str, Any], time: float) -> None:
        """A local executor logs no start: its worker is the driver, from its first shard on."""
        self._speed.ready(name, time)
        if name not in self._there:
            host, pid = str(facts.get("host", "")), facts.get("pid")
            device = str(facts.get("device", ""))
            self._there[name] = WorkerActivity(name, host, pid, device, since=time)
