"""``shardcam retry-failed``: another try for what could not be read or decoded."""

from __future__ import annotations

from itertools import chain
from typing import Any

import click

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import TooManyFailures
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.check_index import require_shards
from shardcam.engine.rundir.replace_shards import bring_back, set_aside
from shardcam.engine.rundir.run_dir import RunDir, ShardFile
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.shard_file import read_failures, read_shard_summary
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.options import changed_config, place_options
from shardcam.jobs.run_extract import run_extract
from shardcam.jobs.sections import SectionedCommand
from shardcam.jobs.terminal import make_console

FINAL = "target"  # the stage whose failures another try cannot mend
CRASHED = "worker"  # that of images which end the process that reads them


@click.command("retry-failed", cls=SectionedCommand)
@click.argument("run", shell_complete=complete_path)
@place_options
@click.option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    help="Exit with code 3 if a larger fraction of the images failed  [default: the run's]",
)
def retry_failed(run: str, **options: Any) -> None:
    """Recompute the shards of RUN with images that could not be read or decoded.

    For files that were missing, still being written, or on a network that failed. Each old
    shard stays until the new one is complete. RUN must be complete. Where and on what they are
    computed is given anew, as to extract. Exits as extract does.

    \b
    Example:
      shardcam retry-failed runs/photos
    """
    run_dir = RunDir.open(run)
    manifest = read_manifest(run_dir)
    config = changed_config(stored_config(run, manifest.config), options)
    with run_dir.lock() as died:
        _retry(run_dir, config, manifest.plan["shards"], died)


def _retry(run_dir: RunDir, config: RunConfig, shards: int, died: bool) -> None:
    run = str(run_dir.home)
    bring_back(run_dir)
    require_shards(run_dir, sum(one < shards for one in run_dir.shard_numbers()), shards)
    every = run_dir.open_shards(range(shards))
    before = {number: found for number, shard in every if (found := _retryable(shard))}
    console = make_console()
    if not before:
        console.print(f"{run}: no sample failed to be read or decoded; nothing to do")
        return
    total = sum(map(len, before.values()))
    apart = died or CRASHED in chain(*before.values())
    console.print(
        f"{run}: {counted(total, 'such sample')} in {len(before)} of {counted(shards, 'shard')}"
    )
    outcome: TooManyFailures | None = None
    with set_aside(run_dir, before):
        try:
            run_extract(config.model_copy(update={"out": run}), console, True, apart)
        except TooManyFailures as error:  # every shard is published all the same
            outcome = error
    still = sum(len(_retryable(shard)) for _, shard in run_dir.open_shards(before))
    console.print(f"{run}: {total - still} of {total} mended, {still} still fail")
    if outcome is not None:
        raise outcome


def _retryable(shard: ShardFile) -> list[str]:
    """The stages of a shard's failures that another try may mend."""
    if not read_shard_summary(shard).failed:
        return []
    return [failure.stage for failure in read_failures(shard) if failure.stage != FINAL]
