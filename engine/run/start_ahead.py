"""What runs the shards, started while the run is prepared."""

from __future__ import annotations

from contextlib import suppress

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ShardcamError
from shardcam.engine.run.build_worker import be_ready, load_libraries
from shardcam.engine.run.executor_choice import AUTO, on_own_ray
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.workers.apart_executor import Child
from shardcam.engine.workers.own_ray import OwnRay


def start_ahead(config: RunConfig) -> Child | OwnRay | None:
    """Start what the run will need, if it needs any; whoever calls ends it.

    Its processes import what they need meanwhile.
    """
    ray = on_own_ray(config) and not config.gpus_per_worker  # a GPU is given to workers later
    if not ray and config.executor != AUTO:
        return None
    with suppress(ShardcamError):  # which is told by whoever prepares the run
        if all_done(RunDir.open(config.out)):
            return None
    if ray:
        return OwnRay(config.workers, config.cpus_per_worker, be_ready)
    return Child(load_libraries)


def all_done(run_dir: RunDir) -> bool:
    """Whether a run has all shards that were planned: there is nothing to do, or little."""
    if not run_dir.exists(run_dir.run_json):
        return False
    return len(run_dir.shard_numbers()) >= read_manifest(run_dir).plan["shards"]
