"""``shardcam status``: how far a run is, from its files alone."""

from __future__ import annotations

import click
from rich.table import Table

from engine.errors import RunDirectoryError
from engine.listing import Listing
from engine.manifest import read_manifest
from engine.results import ShardSummary, check_shard, published_shards, read_shard_summary
from engine.scratch import open_paths
from engine.store import fetch
from engine.types import RunPaths
from jobs.terminal import make_console


@click.command()
@click.argument("run")
def status(run: str) -> None:
    """Show how far RUN is: shards and images done, failed and to do."""
    paths = open_paths(run)
    manifest = read_manifest(paths)
    done = published(paths, manifest.plan["shards"], manifest.fingerprint)
    listed, failed = sum(s.listed for s in done), sum(s.failed for s in done)
    config = manifest.config
    table = Table(show_header=False, box=None)
    table.add_row("run", f"{paths.home}  ({manifest.fingerprint[:12]})")
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
    fetch(paths, paths.listing)
    try:
        listing = Listing(paths.listing)
    except RunDirectoryError as error:
        return str(error)
    return f"{len(listing)} images, {listing.created:%Y-%m-%d %H:%M} UTC"


def published(paths: RunPaths, shards: int, fingerprint: str) -> list[ShardSummary]:
    """Summaries of the shards that are there, whole and of this run."""
    held = (number for number in published_shards(paths) if number < shards)
    good = (i for i in held if check_shard(paths.shard(i), i, fingerprint) is None)
    return [read_shard_summary(paths.shard(i)) for i in good]
