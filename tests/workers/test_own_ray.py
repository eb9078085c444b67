"""A Ray of our own, which starts while its caller does something else."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from shardcam.engine.workers.own_ray import OwnRay
from shardcam.engine.workers.ray_cluster import LOCAL, RayOptions, session

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
    """Names of those that a process has started, and of theirs."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == number:
                yield (folder / "comm").read_text().strip().partition("::")[0]
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
        names = sorted(processes_of(own._child.number))
        assert names == ["cat", "cat", "gcs_server", "ray", "raylet"], "one worker, of two cores"


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
