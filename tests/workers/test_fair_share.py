"""Runs that share a cluster: what each may have, and that they come to it between shards."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from shardcam.engine.workers import ray_pool
from shardcam.engine.workers.fair_share import Claim, allotted
from shardcam.engine.workers.ray_cluster import RayOptions, session
from shardcam.engine.workers.ray_executor import RayExecutor
from shardcam.engine.workers.ray_internals import delete_entry, read_entries, write_entry
from shardcam.engine.workers.ray_sharing import Share, Sharing
from tests.jobs.command import ROOT
from tests.ray_head import ray_head
from tests.workers.scripted import builder, shards

ONE = Claim("1", "01", "CPU", 1.0, 8, 0, 1.0)
SECOND = """
import sys
from shardcam.engine.workers import ray_pool
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.workers.scripted import builder, shards
ray_pool._CAPACITY_INTERVAL = ray_pool._START_PATIENCE = 0.5
run = RayExecutor(builder({}, sys.argv[2]), RayOptions(None, 1, 0, sys.argv[1]))
print(len(list(run.run(shards(6), lambda event: print(event.kind, flush=True)))))
"""


def of(*changes):
    return [replace(ONE, run=str(i), **change) for i, change in enumerate(changes, 1)]


@pytest.mark.parametrize(
    ("claims", "total", "expected"),
    [
        (of({}), 4, [4]),
        (of({}, {}), 4, [2, 2]),
        (of({}, {}), 3, [2, 1]),  # the first one first
        (of({}, {"wanted": 1}), 4, [3, 1]),  # what one does not want is the other's
        (of({}, {"wanted": 0}), 4, [4, 0]),
        (of({}, {"priority": 3.0}), 8, [2, 6]),
        (of({}, {"priority": 1000.0}), 4, [1, 3]),  # nobody starves
        (of({}, {}, {"priority": 2.0}), 2, [1, 0, 1]),  # there is no more
        (of({}, {"each": 4.0}), 12, [4, 2]),
        (of({"each": 0.25}, {"each": 0.25}), 1, [2, 2]),
        (of({}, {"each": 16.0}), 4, [4, 0]),
    ],
)
def test_what_each_run_may_have(claims, total, expected):
    assert [*allotted(claims, total).values()] == expected
    assert [*allotted(claims[::-1], total).values()] == expected[::-1]  # all find the same


@pytest.mark.ray
def test_what_a_dead_driver_asked_for_does_not_count(address):
    """Nor what another version of shardcam wrote, which may be right."""
    options = RayOptions(None, 1, 0, address)
    with session(options):
        write_entry("1-dead", json.dumps(asdict(replace(ONE, job="ffffffff"))).encode())
        write_entry("2-odd", b'{"run": "2"}')
        sharing = Sharing(options)
        assert sharing.update(wanted=4, ready=0) == Share(0, 4, needed=False)
        assert len(read_entries()) == 2 and "1-dead" not in read_entries()
        sharing.end()
        assert [*read_entries()] == ["2-odd"]
        delete_entry("2-odd")


@pytest.mark.ray
def test_workers_give_way_to_another_run_and_come_back(tmp_path, monkeypatch):
    """The first run has all CPUs. The second gets half of them, and the first then all again."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(ray_pool, "_CAPACITY_INTERVAL", 0.5)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    told, second = [], None
    with ray_head(cpus=2) as head:
        slow = dict.fromkeys(range(400), "sleep 0.5")
        executor = RayExecutor(
            builder(slow, tmp_path / "one"), RayOptions(None, 1, 0, head.address)
        )
        run = executor.run(shards(400), told.append)
        for _ in run:
            started = [event for event in told if event.kind == "worker_started"]
            if second is None and len(started) == 2:
                second = subprocess.Popen(
                    [sys.executable, "-c", SECOND, head.address, tmp_path / "two"],
                    cwd=ROOT, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
            if second is not None and second.poll() is not None and len(started) == 3:
                break
        else:
            pytest.fail("the first run ended before the second")
        run.close()
    out = second.communicate()[0].split()
    assert out[-1] == "6" and second.returncode == 0
    assert out.index("worker_waiting") < out.index("worker_started")
    shared = [(e.runs, e.workers) for e in told if e.kind == "cluster_shared"]
    assert shared[0] == (1, 1) and shared[-1] == (0, 2)
    assert [e.kind for e in told].count("worker_recycled") == 1
