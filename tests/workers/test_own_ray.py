"""A Ray of our own, which starts while its caller does something else."""

import os
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray

from shardcam.engine.workers import own_ray
from shardcam.engine.workers.own_ray import OwnRay
from shardcam.engine.workers.ray_cluster import LOCAL, RayOptions, session
from tests.ray_head import START_SECONDS

pytestmark = pytest.mark.ray
OPTIONS = RayOptions(1, 2, 0, LOCAL)
TOLD = "TOLD_BY_THE_FIRST"


def first():
    os.environ[TOLD] = os.environ["OMP_NUM_THREADS"]


@ray.remote
def told():
    return os.environ.get(TOLD)


@ray.remote
def number():
    return os.getpid()


def lives(process):
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def processes_of(number):
    """Numbers and names of those that a process has started, and of theirs."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == number:
                yield int(folder.name), (folder / "comm").read_text().strip().partition("::")[0]
                yield from processes_of(int(folder.name))


@pytest.fixture
def own():
    started = OwnRay(1, 2, first)
    yield started
    started.end()


def test_it_has_no_processes_but_those_of_a_run(own):
    with session(OPTIONS, own) as programs:
        assert not programs
        assert ray.get(told.remote()) == "2"
        names = sorted(name for _, name in processes_of(own._child.number))
        assert names == ["cat", "cat", "gcs_server", "ray", "raylet"], "one worker, of two cores"


def test_its_workers_start_before_it_is_joined(own):
    deadline = time.monotonic() + START_SECONDS
    while not (ahead := [n for n, name in processes_of(own._child.number) if name == "ray"]):
        assert time.monotonic() < deadline, "no worker"
        time.sleep(0.1)
    with session(OPTIONS, own):
        assert [ray.get(number.remote())] == ahead


@pytest.mark.parametrize(
    ("workers", "cores", "ahead"), [(6, 8, 6), (6, 2, 2), (None, 3, 3), (None, 64, 4)]
)
def test_few_start_where_nobody_said_how_many(monkeypatch, workers, cores, ahead):
    child = Mock()
    monkeypatch.setattr(own_ray, "ChildProcess", child)
    monkeypatch.setattr(own_ray, "usable_cores", lambda: cores)
    OwnRay(workers, 1).end()
    started, _, params = child.return_value.pipe.send.call_args.args[0]
    assert (started, params["num_cpus"]) == (ahead, workers or cores)


def test_nobody_reaches_it_from_elsewhere(own):
    with session(OPTIONS, own):
        nodes = ray.nodes()
        assert [node["NodeManagerAddress"] for node in nodes] == ["127.0.0.1"]
        port = nodes[0]["NodeManagerPort"]
        listening = Path("/proc/net/tcp6").read_text() + Path("/proc/net/tcp").read_text()
        found = [line.split()[1] for line in listening.splitlines() if f":{port:04X} 0000" in line]
        assert found
        assert all(address.startswith("0000000000000000FFFF00000100007F") for address in found)


def test_its_workers_end_with_it(own):
    with session(OPTIONS, own):
        worker = ray.get(number.remote())
        assert lives(worker)
    assert not lives(worker)


def test_it_can_be_ended_before_it_has_started():
    started = OwnRay(1, 1)
    number, folder = started._child.number, started._folder
    started.end()
    started.end()
    assert not list(processes_of(number))
    assert not folder.exists()


@pytest.mark.parametrize("delay", [0.3, 0.6, 0.7, 0.8, 0.9, 1.2])
def test_nothing_stays_of_one_that_is_ended_while_it_starts(delay):
    started = OwnRay(1, 1)
    folder = str(started._folder).encode()
    time.sleep(delay)
    started.end()
    with_it = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if folder in file.read_bytes():
                with_it.append(file)
    assert not with_it
    assert not started._folder.parent.exists()
