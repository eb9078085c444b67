"""What runs the shards of a run: here, in a process beside this one, or on Ray."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.protocols import Executor, ShardRunner
from shardcam.engine.run.build_worker import WorkerSpec, build_runner
from shardcam.engine.run.prepare import Prepared
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.own_ray import OwnRay

if TYPE_CHECKING:
    from shardcam.engine.workers.apart_executor import Child


def make_executor(
    prepared: Prepared,
    builder: Callable[[WorkerSpec], ShardRunner] | None = None,
    may_exit: bool = False,
    apart: bool = False,
    ahead: Child | OwnRay | None = None,
) -> Executor:
    """The executor that was asked for, with what `builder` makes in each worker.

    By default that is what turns shards into results; see `executor_of`.
    """
    build = partial(builder or build_runner, prepared.worker)
    return executor_of(prepared.config, build, may_exit, apart, ahead)


def executor_of(
    config: RunConfig,
    build: Callable[[], ShardRunner],
    may_exit: bool = False,
    apart: bool = False,
    ahead: Child | OwnRay | None = None,
) -> Executor:
    """The executor that was asked for, with what `build` makes in each worker.

    `may_exit`: see `engine.workers.ray_executor.RayExecutor`. `apart`: a local executor works in
    a child process, for an image may end it. `ahead`: what was started for it before.
    """
    if config.executor == "local" and apart:
        from shardcam.engine.workers.apart_executor import ApartExecutor, Child

        return ApartExecutor(build, ahead if isinstance(ahead, Child) else None)
    if config.executor == "local":
        from shardcam.engine.workers.local_executor import LocalExecutor

        return LocalExecutor(build)
    from shardcam.engine.workers.ray_cluster import RayOptions
    from shardcam.engine.workers.ray_executor import RayExecutor

    options = RayOptions(
        config.workers,
        config.cpus_per_worker,
        config.gpus_per_worker,
        config.address,
        config.hang_timeout,
        config.recycle,
        config.priority,
    )
    return RayExecutor(build, options, may_exit, ahead if isinstance(ahead, OwnRay) else None)


def driver_threads(config: RunConfig) -> int:
    """Threads of this process: all cores if it does the work itself."""
    return 1 if config.executor == "ray" else usable_cores()
