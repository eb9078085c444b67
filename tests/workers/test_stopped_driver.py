"""A driver that was stopped or suspended does not take its own absence for its workers'."""

from types import SimpleNamespace

import pytest

from shardcam.engine.workers import awake_clock
from shardcam.engine.workers.awake_clock import AwakeClock
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_pool import WorkerPool
from shardcam.engine.workers.retry_queue import RetryQueue
from shardcam.engine.workers.worker_state import WorkerState
from tests.workers.scripted import nobody, shards


@pytest.fixture
def real(monkeypatch):
    """The time that goes on."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(awake_clock.time, "monotonic", lambda: time.now)
    return time


def test_the_clock_stands_still_meanwhile(real):
    clock = AwakeClock()
    begun = clock()
    for _ in range(10):
        real.now += 0.5
        clock()
    real.now += 3600
    assert clock() - begun == 5 + awake_clock.LONGEST


@pytest.mark.parametrize(("step", "lost"), [(0.5, True), (3600.0, False)])
def test_only_who_is_watched_can_hang(real, monkeypatch, step, lost):
    """A worker that is silent for an hour, whose driver looks twice a second, or only then."""
    told = []
    options = RayOptions(1, 1, 0, None, hang_timeout=1800)
    pool = WorkerPool(nobody, options, RetryQueue(shards(1), told.append), told.append)
    monkeypatch.setattr(pool, "_stop", nobody)
    worker = WorkerState(None, "worker-1", pool._clock(), shards(1)[0], heartbeat="asked")
    worker.progressed = pool._clock()
    pool._workers["call"] = worker
    for _ in range(int(3600 / step)):
        real.now += step
        pool._check_workers()
    assert [event.kind for event in told] == ["worker_lost"] * lost
