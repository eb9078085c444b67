"""``shardcam retry-failed``: another try for what could not be read or decoded."""

from __future__ import annotations

import click

from engine.config import RunConfig
from engine.lock import driver_lock
from engine.manifest import read_manifest
from engine.results import read_failures, read_shard_summary
from engine.scratch import open_paths
from engine.types import RunPaths
from engine.writers.again import bring_back, set_aside
from jobs.extract import run_extract
from jobs.options import stored_config
from jobs.terminal import make_console

FINAL = "target"  # the stage whose failures another try cannot mend


@click.command("retry-failed")
@click.argument("run")
def retry_failed(run: str) -> None:
    """Compute the shards of RUN anew that have samples which could not be read or decoded.

    For files that were missing, being written or on a network that failed. The old shard
    stays until its successor is published. The run must be complete.
    """
    paths = open_paths(run)
    manifest = read_manifest(paths)
    config = stored_config(run, manifest.config)
    with driver_lock(paths):
        _retry(paths, config, manifest.plan["shards"])


def _retry(paths: RunPaths, config: RunConfig, shards: int) -> None:
    run = str(paths.home)
    bring_back(paths)
    numbers = [n for n in range(shards) if _can_be_mended(paths, n)]
    console = make_console()
    if not numbers:
        console.print(f"{run}: no sample failed to be read or decoded; nothing to do")
        return
    console.print(f"{run}: {len(numbers)} of {shards} shards have such samples")
    with set_aside(paths, numbers):
        run_extract(config.model_copy(update={"out": run}), console, again=True)


def _can_be_mended(paths: RunPaths, number: int) -> bool:
    path = paths.shard(number)
    if not read_shard_summary(path).failed:
        return False
    return any(failure.stage != FINAL for failure in read_failures(path))
