import fcntl
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import shardcam.engine.rundir.lock
from shardcam.engine.errors import RunDirectoryError, StoreError
from shardcam.engine.rundir import events as events_of
from shardcam.engine.rundir.event_log import EventLog, read_events, summarize, worker_rate
from shardcam.engine.rundir.run_dir import RunDir

LINES = """\
{"kind": "run_started", "host": "host", "pid": 1, "shards": 4, "todo": 3, "images": 100}
{"kind": "worker_started", "worker": "w", "node": "node", "host": "host", "pid": 2, "device": "0", \
"cores": [0, 1], "seconds": 1.5}
{"kind": "worker_waiting", "workers": 2, "resource": "CPUs"}
{"kind": "worker_lost", "worker": "w", "reason": "killed", "shard": null, "node_lost": false}
{"kind": "worker_recycled", "worker": "w", "shards": 9}
{"kind": "shard_started", "shard": 1, "worker": "w", "images": 8, "trial": false}
{"kind": "shard_done", "shard": 1, "worker": "w", "images": 8, "failed": 0, "published": true, \
"took": 0.6, "seconds": {"forward": 0.5}}
{"kind": "search", "shard": 1, "images": 8, "reason": "killed"}
{"kind": "given_up", "sample": 3, "key": "a.jpg", "reason": "killed"}
{"kind": "run_ended", "outcome": "done"}
"""


@pytest.fixture
def paths(tmp_path):
    return RunDir(tmp_path)


def test_events_come_back_in_order_and_progress_is_not_kept(paths):
    log = EventLog(paths)
    log.append(events_of.RunStarted("a", 1, 2, 1, 16))
    log.append(events_of.Progress("w", 0, 3))
    log.append(events_of.ShardDone(0, "w", 8, 0, True, 0.6, {"forward": 0.5}))
    log.close()
    assert [event["kind"] for event in read_events(paths)] == ["run_started", "shard_done"]
    assert all(event["time"] > 1.7e9 for event in read_events(paths))


def test_lines_have_the_names_and_facts_that_they_always_had(paths):
    """Whoever reads the logs of old runs and of new ones looks for these."""
    events = (
        events_of.RunStarted("host", 1, 4, 3, 100),
        events_of.WorkerStarted("w", "node", "host", 2, "0", [0, 1], 1.5),
        events_of.WorkerWaiting(2),
        events_of.WorkerLost("w", "killed", None, False),
        events_of.WorkerRecycled("w", 9),
        events_of.ShardStarted(1, "w", 8, False),
        events_of.ShardDone(1, "w", 8, 0, True, 0.6, {"forward": 0.5}),
        events_of.SearchStarted(1, 8, "killed"),
        events_of.SampleGivenUp(3, "a.jpg", "killed"),
        events_of.RunEnded("done"),
    )
    log = EventLog(paths)
    for event in events:
        log.append(event)
    log.close()
    lines = [
        re.sub(r'"time": [0-9.]+, ', "", line) for line in paths.events.read_text().splitlines(True)
    ]
    assert "".join(lines) == LINES


def test_a_line_cut_by_a_kill_spoils_no_other(paths):
    paths.events.write_text('{"time": 1, "kind": "run_started"}\n{"time": 2, "ki')
    log = EventLog(paths)
    log.append(events_of.RunStarted("a", 1, 2, 1, 16))
    log.close()
    assert [event["kind"] for event in read_events(paths)] == ["run_started", "run_started"]
    assert list(read_events(RunDir(paths.root / "none"))) == []


def test_a_log_that_cannot_be_read_is_reported_in_one_line(paths):
    paths.events.symlink_to(paths.events.name)
    with pytest.raises(StoreError, match=r"events\.jsonl: cannot be read now: Too many levels"):
        list(read_events(paths))


def test_summary_is_of_all_commands_and_of_the_last_ones_workers(paths):
    def event(at, kind, **facts):
        return {"time": at, "kind": kind, **facts}

    stages = {"decode": 1.0, "forward": 3.0}
    activity = summarize(
        [
            event(0, "run_started"),
            event(1, "worker_started", worker="worker-1", host="a"),
            event(1, "shard_started", worker="worker-1"),
            event(9, "shard_done", worker="worker-1", images=10, seconds=stages),
            event(10, "run_ended", outcome="Interrupted: stopped"),
            event(20, "run_started"),
            event(21, "worker_started", worker="worker-1", host="b"),
            event(21, "worker_started", worker="worker-2", host="b"),
            event(22, "shard_done", worker="worker-1", images=10, seconds=stages),
            event(23, "worker_lost", worker="worker-2", reason="killed"),
            event(24, "shard_done", worker="worker-1", images=16, seconds=stages),
            event(26, "shard_done", worker="worker-1", images=16, seconds=stages),
        ]
    )
    (worker,) = activity.workers.every()
    assert (worker.worker, worker.host, worker.shards, worker.images) == ("worker-1", "b", 3, 42)
    assert (activity.commands, activity.lost, activity.outcome) == (2, 1, None)
    assert activity.stage_seconds == {"decode": 4.0, "forward": 12.0}
    assert activity.workers.images_per_second == 42 / 5  # of the one that is left


HOLD = (
    "import sys; from pathlib import Path\n"
    "from shardcam.engine.rundir.run_dir import RunDir\n"
    "with RunDir(Path(sys.argv[1])).lock():\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.process
def test_the_second_driver_is_refused_and_a_dead_one_is_in_nobodys_way(paths):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, paths.root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd(),
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    assert paths.lock_holder().startswith(f"process {process.pid} on ")
    refused = pytest.raises(RunDirectoryError, match=f"process {process.pid} .* is working on it")
    with refused, paths.lock():
        pass
    process.kill()
    process.communicate()
    assert paths.lock_file.exists()
    assert paths.lock_holder() is None
    for died in (True, False):
        with paths.lock() as abandoned:
            assert abandoned == died
            assert json.loads(paths.lock_file.read_text())["pid"] == os.getpid()
            assert paths.lock_holder() is not None
        assert paths.lock_holder() is None


def test_a_lock_is_no_link_to_a_file_of_somebody_else(paths, tmp_path):
    (tmp_path / "theirs").write_text("dear to them")
    paths.lock_file.unlink(missing_ok=True)
    paths.lock_file.symlink_to(tmp_path / "theirs")
    with pytest.raises(RunDirectoryError, match=r"\.lock: cannot be written"), paths.lock():
        pass
    assert (tmp_path / "theirs").read_text() == "dear to them"


def test_who_looks_at_the_lock_keeps_nobody_from_taking_it(paths, monkeypatch):
    with paths.lock_file.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        clock = SimpleNamespace(sleep=lambda seconds: looking.close())
        monkeypatch.setattr(shardcam.engine.rundir.lock, "time", clock)
        with paths.lock():
            assert paths.lock_holder() is not None


def test_the_rate_counts_each_worker_to_the_end_of_all():
    """100 images in 10 and in 8 seconds of two workers, one of which began 2 s late."""
    log = [
        {"kind": "run_started", "time": 90.0},
        {"kind": "shard_started", "worker": "a", "time": 100.0},
        {"kind": "shard_started", "worker": "b", "time": 102.0},
        {"kind": "shard_done", "worker": "b", "time": 105.0, "images": 40},
        {"kind": "shard_started", "worker": "a", "time": 106.0},
        {"kind": "shard_done", "worker": "a", "time": 110.0, "images": 60},
    ]
    assert worker_rate(log) == (2, 2 * 100 / (10 + 8))
