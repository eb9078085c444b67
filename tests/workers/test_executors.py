import os
import signal
import threading
import time

import pytest
import ray

import shardcam.engine.workers.ray_heartbeats
import shardcam.engine.workers.ray_pool
from shardcam.engine.errors import Interrupted, WorkerError
from shardcam.engine.types import ShardReport
from shardcam.engine.workers import own_ray
from shardcam.engine.workers.apart_executor import ApartExecutor
from shardcam.engine.workers.local_executor import LocalExecutor
from shardcam.engine.workers.ray_address import LOCAL
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from shardcam.engine.workers.ray_pool import START_FAILURES
from shardcam.engine.workers.retry_queue import ATTEMPTS
from tests.workers import executor_conformance as conformance
from tests.workers.scripted import builder, nobody, shards


def on_our_own(build):
    return RayExecutor(build, RayOptions(2, 1, 0, LOCAL))


@pytest.fixture
def on_ray(address):
    return lambda build: RayExecutor(build, RayOptions(2, 1, 0, address))


@pytest.fixture
def one_watched(address, monkeypatch):
    """One worker that may stand still for 3 s, and is asked twice a second."""
    monkeypatch.setattr(shardcam.engine.workers.ray_heartbeats, "_INTERVAL", 0.5)
    return lambda build: RayExecutor(build, RayOptions(1, 1, 0, address, hang_timeout=3))


CHECKS = [
    conformance.check_every_shard_is_reported_once,
    conformance.check_shards_are_taken_as_workers_get_free,
    conformance.check_errors_of_ours_arrive_as_they_are,
    conformance.check_a_bug_stops_the_run_with_the_workers_traceback,
    conformance.check_a_bug_while_workers_start_is_shown_too,
    conformance.check_lack_of_memory_is_one_line,
]


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check, tmp_path):
    check(LocalExecutor, tmp_path)


def test_this_process_is_told_which_shard_comes_next():
    told = []

    class Runner:
        def run(self, shard, timer, next_shard=None):
            told.append((shard.index, next_shard and next_shard.index))
            return ShardReport(shard.index, 1, 1, 0, True, {})

    for count in (3, 1, 0):
        list(LocalExecutor(Runner).run(shards(count), nobody))
    assert told == [(0, 1), (1, 2), (2, None), (0, None)]


@pytest.mark.process
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_apart(check, tmp_path):
    check(ApartExecutor, tmp_path)


@pytest.mark.parametrize("check", CHECKS)
def test_conformance_on_ray(check, on_ray, tmp_path):
    check(on_ray, tmp_path)


@pytest.mark.ray
def test_a_ray_of_our_own(tmp_path, monkeypatch):
    """Without a home, and where Ray's sockets would have too long a name or another's folder."""
    (long := tmp_path / ("long" * 15)).mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv("HOME", "/dev/null/no/home")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    conformance.check_every_shard_is_reported_once(on_our_own, tmp_path)
    assert not list(long.glob("ray*"))


def test_a_dead_worker_is_replaced_and_its_shard_run_again(on_ray, tmp_path):
    script = {0: "die 1", 3: f"die {ATTEMPTS - 1}"}
    reports = list(on_ray(builder(script, tmp_path)).run(shards(6), nobody))
    assert sorted(report.shard for report in reports) == list(range(6))
    assert len(list(tmp_path.glob("3-*"))) == ATTEMPTS


def test_an_image_that_kills_every_worker_becomes_a_failure(on_ray, tmp_path):
    told = []
    script = {2: "die 100 unless given up"}
    run = on_ray(builder(script, tmp_path)).run(shards(4), lambda event: told.append(event.kind))
    reports = {report.shard: report for report in run}
    assert [reports[i].failed for i in range(4)] == [0, 0, 1, 0]
    assert told.count("worker_lost") == ATTEMPTS
    assert told.count("given_up") == 1


@pytest.mark.process
def test_an_image_that_kills_every_child_process_becomes_a_failure(tmp_path):
    told = []
    script = {1: "die 1", 2: "die 100 unless given up"}
    reports = list(ApartExecutor(builder(script, tmp_path)).run(shards(4), told.append))
    assert [report.shard for report in reports] == list(range(4))
    assert [report.failed for report in reports] == [0, 0, 1, 0]
    lost = [event for event in told if event.kind == "worker_lost"]
    assert [event.shard for event in lost] == [1, *[2] * ATTEMPTS]
    assert {event.reason for event in lost} == {"died of SIGKILL"}


@pytest.mark.process
def test_a_child_process_that_cannot_start_stops_the_run(tmp_path):
    with pytest.raises(WorkerError, match=r"^a child process died of SIGKILL while it started"):
        list(ApartExecutor(builder({"start": "die"}, tmp_path)).run(shards(1), nobody))


def test_a_shard_that_kills_workers_whatever_is_left_out_stops_the_run(on_ray, tmp_path):
    with pytest.raises(WorkerError, match=r"shard-000002 .*'sample 2'.* crashes every worker"):
        list(on_ray(builder({2: "die 100"}, tmp_path)).run(shards(4), nobody))


def test_a_worker_that_hangs_is_replaced(one_watched, tmp_path):
    told = []
    run = one_watched(builder({1: "hang 1"}, tmp_path)).run(shards(3), told.append)
    assert sorted(report.shard for report in run) == [0, 1, 2]
    (lost,) = [event for event in told if event.kind == "worker_lost"]
    assert lost.reason == "no progress for 3 s in stage 'forward'"
    assert lost.shard == 1


def test_a_worker_that_is_stopped_is_replaced(one_watched, tmp_path):
    """SIGSTOP: no thread of it answers."""
    reports = one_watched(builder({1: "stop 1"}, tmp_path)).run(shards(3), nobody)
    assert sorted(report.shard for report in reports) == [0, 1, 2]


def test_a_worker_that_is_slow_within_a_batch_is_let_alone(one_watched, tmp_path):
    told = []
    run = one_watched(builder({0: "passes 7"}, tmp_path)).run(
        shards(1), lambda event: told.append(event.kind)
    )
    assert len(list(run)) == 1
    assert "worker_lost" not in told


def test_an_old_worker_is_replaced(address, tmp_path):
    told = []
    options = RayOptions(1, 1, 0, address, recycle=2)
    run = RayExecutor(builder({}, tmp_path), options).run(
        shards(5), lambda event: told.append(event.kind)
    )
    assert len(list(run)) == 5
    assert told.count("worker_started") == 3


def test_workers_that_cannot_start_stop_the_run(on_ray, tmp_path):
    with pytest.raises(WorkerError, match="3 workers died while starting"):
        list(on_ray(builder({"start": "die"}, tmp_path)).run(shards(4), nobody))


def test_workers_that_cannot_start_stop_no_run_that_another_does(on_ray, tmp_path):
    told = []
    script = {"start": "die but one", **dict.fromkeys(range(12), "sleep 1")}
    run = on_ray(builder(script, tmp_path)).run(shards(12), lambda event: told.append(event.kind))
    assert sorted(report.shard for report in run) == [*range(12)]
    assert told.count("worker_lost") == START_FAILURES


def test_an_address_where_nothing_answers(tmp_path):
    executor = RayExecutor(builder({}, tmp_path), RayOptions(1, 1, 0, "127.0.0.1:1"))
    with pytest.raises(WorkerError, match=r"--address 127\.0\.0\.1:1: no Ray cluster answers"):
        list(executor.run(shards(1), nobody))


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_seen_while_a_long_shard_runs(tmp_path, number):
    """And nothing of Ray is left behind, nor its handlers."""

    def interrupt(*_):
        raise Interrupted("stopped")

    def heard(event):
        if event.kind == "shard_started":
            started.append(time.monotonic())
            threading.Timer(1, os.kill, (os.getpid(), number)).start()

    started = []
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(Interrupted):
            list(on_our_own(builder({0: "sleep 120"}, tmp_path)).run(shards(1), heard))
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert time.monotonic() - started[0] < 60
    assert not ray.is_initialized()


@pytest.mark.ray
def test_the_last_shard_is_run_again_where_a_lost_node_left_one_worker_waiting(
    tmp_path, monkeypatch
):
    """Two workers were wanted; one has room. It dies while the other one waits for its place."""
    monkeypatch.setattr(own_ray, "usable_cores", lambda: 1)
    monkeypatch.setattr(shardcam.engine.workers.ray_pool, "_CAPACITY_INTERVAL", 1.0)
    looks = iter((2,))
    monkeypatch.setattr(
        shardcam.engine.workers.ray_pool, "worker_capacity", lambda _: next(looks, 1)
    )
    script = {0: "sleep 4", 1: "die 1"}
    options = RayOptions(None, 1, 0, None)
    reports = list(RayExecutor(builder(script, tmp_path), options).run(shards(2), nobody))
    assert sorted(report.shard for report in reports) == [0, 1]
