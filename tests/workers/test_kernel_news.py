"""The driver of workers hears that kernels are compiled there."""

import logging
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from shardcam.engine.workers import ray_heartbeats
from shardcam.engine.workers.apart_executor import Child
from shardcam.engine.workers.kernel_log import KERNELS, KernelLog
from shardcam.engine.workers.ray_heartbeats import Heartbeats
from shardcam.engine.workers.worker_state import Pulse, WorkerState


@pytest.fixture(autouse=True)
def restored():
    before = [*KERNELS.handlers]
    yield
    KERNELS.handlers[:] = before


def test_once_from_the_workers_of_ray(monkeypatch, caplog):
    told = []
    KernelLog(told.append)
    KERNELS.info("compiling")
    caplog.clear()
    beats = Heartbeats(lambda event: None, clock=lambda: 0.0)
    pulse = Pulse(None, "start", 0, 0, told[0])
    monkeypatch.setattr(ray_heartbeats, "ray", SimpleNamespace(get=lambda call: pulse))
    for name in ("first", "second"):
        beats.pending["call"] = WorkerState(None, name, since=0.0)
        beats.on_heartbeat("call")
    assert [record.getMessage() for record in caplog.records] == ["compiling"]


def test_from_a_child(caplog):
    here, there = Pipe()
    child = Child.__new__(Child)
    child._process = SimpleNamespace(pipe=here)
    with caplog.at_level(logging.INFO, KERNELS.name):
        there.send("compiling")
        there.send(None)
        assert child._receive() is None
    assert [record.getMessage() for record in caplog.records] == ["compiling"]
