"""A worker's driver hears that kernels are compiled there."""

import logging
from types import SimpleNamespace

from shardcam.engine.workers import ray_heartbeats
from shardcam.engine.workers.ray_heartbeats import Heartbeats
from shardcam.engine.workers.ray_worker import Told
from shardcam.engine.workers.worker_state import KERNELS, Pulse, WorkerState


def test_the_driver_tells_once_what_the_kernels_of_its_workers_log(monkeypatch, caplog):
    told = Told()
    try:
        logging.getLogger(KERNELS).info("compiling")
    finally:
        logging.getLogger(KERNELS).removeHandler(told)
    caplog.clear()
    beats = Heartbeats(lambda event: None, clock=lambda: 0.0)
    pulse = Pulse(None, "start", 0, 0, told.text)
    monkeypatch.setattr(ray_heartbeats, "ray", SimpleNamespace(get=lambda call: pulse))
    for name in ("first", "second"):
        beats.pending["call"] = WorkerState(None, name, since=0.0)
        beats.on_heartbeat("call")
    assert [record.getMessage() for record in caplog.records] == ["compiling"]
