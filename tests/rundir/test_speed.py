"""The speed of several workers together: never better than it is, known when each has worked."""

import pytest

from shardcam.engine.rundir.event_log import summarize
from shardcam.engine.rundir.speed import Speed


def test_what_comes_first_says_nothing_of_how_long_it_took():
    """Two workers with long shards that end at nearly the same time: 64 images in 10 s."""
    log = [
        {"kind": "run_started", "time": 0.0},
        {"kind": "worker_started", "time": 5.0, "worker": "a"},
        {"kind": "worker_started", "time": 5.1, "worker": "b"},
        {"kind": "shard_started", "time": 5.0, "worker": "a"},
        {"kind": "shard_started", "time": 5.1, "worker": "b"},
        {"kind": "shard_done", "time": 15.0, "worker": "a", "images": 32, "seconds": {}},
    ]
    assert summarize(log).workers.images_per_second is None
    log.append({"kind": "shard_done", "time": 15.1, "worker": "b", "images": 32, "seconds": {}})
    assert summarize(log).workers.images_per_second == pytest.approx(6.4)
    log.append({"kind": "worker_lost", "time": 16.0, "worker": "b"})
    assert summarize(log).workers.images_per_second == pytest.approx(3.2)
    log.append({"kind": "worker_started", "time": 20.0, "worker": "c"})
    assert summarize(log).workers.images_per_second == pytest.approx(3.2)


def test_only_the_last_reports_count():
    speed = Speed(2)
    speed.ready("a", 0)
    for second in (100, 101, 102):
        speed.add("a", 5, second)
    assert speed.rate() == 5.0


def test_a_worker_that_falls_silent_gets_slower():
    speed = Speed()
    speed.ready("a", 0)
    for second in (10, 20):
        speed.add("a", 30, second)
    assert [speed.rate(now) for now in (20, 30, 40, 130)] == [3.0, 3.0, 2.0, 0.5]


def test_nothing_is_known_of_nobody():
    speed = Speed()
    assert speed.rate() is None
    speed.add("a", 1, 5.0)  # its beginning was not seen
    assert speed.rate() == 0.0
    speed.gone("a")
    assert speed.rate() is None
