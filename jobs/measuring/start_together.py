"""Workers that begin their first shard together, so that a run is of as many as it says."""

from __future__ import annotations

import os
import time

from shardcam.engine.protocols import ShardRunner, Timer
from shardcam.engine.run.build_worker import WorkerSpec, build_runner
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Shard, ShardReport

_PATIENCE = 60.0  # seconds; the cluster may have no room for all of them
_PAUSE = 0.05  # seconds


class StartTogether:
    """What runs shards, built when all workers that were asked for are ready, or a minute later.

    A worker that is ready first would else do the shards of those that still load the network.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._runner: ShardRunner = build_runner(spec)
        ready = RunDir.open(spec.config.out).root / ".ready"
        ready.mkdir(exist_ok=True)
        (ready / f"{os.uname().nodename}-{os.getpid()}").touch()
        end = time.monotonic() + _PATIENCE
        while len([*ready.iterdir()]) < (spec.config.workers or 1) and time.monotonic() < end:
            time.sleep(_PAUSE)

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        return self._runner.run(shard, timer, next_shard)
