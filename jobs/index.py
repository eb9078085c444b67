"""``shardcam index``: one file over all shards of a run, made anew."""

from __future__ import annotations

import click

from engine.lock import driver_lock
from engine.manifest import read_manifest
from engine.results import shard_numbers
from engine.runs import ulimit_for
from engine.scratch import open_paths
from engine.writers.index import build_index
from jobs.terminal import make_console


@click.command()
@click.argument("run")
def index(run: str) -> None:
    """Make index.h5 of RUN anew from the shards that are there.

    Extract does it at its end; this is for a run that was stopped, or whose index was
    deleted or damaged.
    """
    paths = open_paths(run)
    shards = read_manifest(paths).plan["shards"]
    with driver_lock(paths):
        build_index(paths)
    there, console = len(shard_numbers(paths)), make_console()
    console.print(f"{paths.place(paths.index)}: over {there} of {shards} shards")
    if note := many_shards(there):
        console.print(note)


def many_shards(shards: int) -> str | None:
    """What plain h5py needs for an index of more files than it may open here."""
    files = ulimit_for(shards)
    if files is None:
        return None
    return (
        f"plain h5py needs ulimit -n {files} to read the index, and makes rows up without; "
        "open_run does not"
    )
