"""The process on a node that holds one model and runs one shard after another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import ray

from shardcam.engine.errors import bugs_named
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import ShardRunner
from shardcam.engine.types import Shard, ShardReport
from shardcam.engine.workers.cores import claim_cores
from shardcam.engine.workers.kernel_log import KernelLog
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.shard_descriptor import Descriptor, unpack
from shardcam.engine.workers.threads import limit_threads
from shardcam.engine.workers.worker_state import Pulse


class _Worker:
    """The actor: a process that holds one model and runs one shard at a time."""

    def __init__(self) -> None:
        self._running: tuple[int | None, StageTimer] = None, StageTimer()  # the shard's number
        self._next_shard: Shard | None = None  # which is prefetched
        self._told: list[str] = []  # by the kernels
        KernelLog(self._told.append)

    def start(self, build: Callable[[], ShardRunner], options: RayOptions) -> dict[str, Any]:
        """Load the model; everything slow happens here, outside any shard's time."""
        cores = claim_cores(options.cpus_per_worker)
        limit_threads(options.cpus_per_worker)
        if not options.gpus_per_worker:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves every GPU visible to it
        with bugs_named():
            self._runner = build()
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "cores": list(cores),
        }

    def run(self, descriptor: Descriptor | None, next_shard: Descriptor | None) -> ShardReport:
        """Turn one shard into one small report, and prefetch the next one.

        No descriptor: it is the one that was prefetched.
        """
        shard = self._next_shard if descriptor is None else unpack(descriptor)
        assert shard is not None
        timer = StageTimer()
        self._running = shard.index, timer
        self._next_shard = None if next_shard is None else unpack(next_shard)
        with bugs_named(shard.samples):
            return self._runner.run(shard, timer, self._next_shard)

    @ray.method(concurrency_group="heartbeat")
    def heartbeat(self) -> Pulse:
        """How far the shard is."""
        shard, timer = self._running
        return Pulse(shard, timer.current, timer.images, timer.passes, "".join(self._told))


_GROUPS: Any = {"concurrency_groups": {"heartbeat": 1}}
WorkerActor: Any = ray.remote(**_GROUPS)(_Worker)
