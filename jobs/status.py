"""``shardcam status``: how far a run is, from its files alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click
from rich.table import Table

from engine.errors import RunDirectoryError
from engine.listing import Listing
from engine.manifest import read_manifest
from engine.results import ShardSummary, read_shard_summary, summary_problem
from engine.types import RunPaths
from jobs.terminal import make_console


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def status(run: Path) -> None:
    """Show how far RUN is: shards and images done, failed and to do."""
    paths = RunPaths(run)
    manifest = read_manifest(paths)
    done = published(paths, manifest.plan["shards"], manifest.fingerprint)
    listed, failed = sum(s.listed for s in done), sum(s.failed for s in done)
    config = manifest.config
    table = Table(show_header=False, box=None)
    table.add_row("run", f"{paths.root}  ({manifest.fingerprint[:12]})")
    table.add_row("source", str(config["source"]))
    table.add_row("listing", _listing(paths))
    table.add_row("model", f"{config['model']}, {config['method']}, {config['target']}")
    table.add_row("shards", f"{len(done)} of {manifest.plan['shards']} done")
    table.add_row("images", f"{listed} of {manifest.plan['samples']} done, {failed} of them failed")
    table.add_row("bytes", f"{sum(s.bytes for s in done):,}")
    complete = len(done) == manifest.plan["shards"]
    state = "complete" if complete else "incomplete; the same extract command resumes it"
    table.add_row("state", state)
    make_console().print(table)


def _listing(paths: RunPaths) -> str:
    try:
        listing = Listing(paths.listing)
    except RunDirectoryError as error:
        return str(error)
    return f"{len(listing)} images, {listing.created:%Y-%m-%d %H:%M} UTC"


def published(paths: RunPaths, shards: int, fingerprint: str) -> list[ShardSummary]:
    """Summaries of the shards that are there, whole and of this run."""
    good = []
    for number in range(shards):
        with suppress(RunDirectoryError):
            summary = read_shard_summary(paths.shard(number))
            if summary_problem(summary, number, fingerprint) is None:
                good.append(summary)
    return good
