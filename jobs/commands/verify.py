"""``shardcam verify``: is everything there, whole, and of one run?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice, pairwise
from pathlib import PurePath

import click

from shardcam.engine.analysis.open_run import require_codec
from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.account import Account
from shardcam.engine.rundir.check_index import check_index, require_own_rows
from shardcam.engine.rundir.cluster_results import damaged_clusters
from shardcam.engine.rundir.listing import Listing, listing_digest
from shardcam.engine.rundir.metric_results import damaged_metrics
from shardcam.engine.rundir.replace_shards import move_to_damaged
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.rundir.shard_file import check_shard, read_shard_summary
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.terminal import make_console

NAMED = 1000  # gaps that are named one by one


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option("--deep", is_flag=True, help="Read every byte and compare all checksums.")
@click.option("--repair", is_flag=True, help="Move damaged shards aside.")
def verify(run: str, deep: bool, repair: bool) -> None:
    """Check that RUN is complete: every shard present, whole and of this run.

    Each damaged or missing shard is named. --repair moves damaged ones to RUN/damaged, if a
    second look agrees, and the same extract command refills the gaps. Exits with 1 if anything
    is wrong, or cannot be read now; then nothing is touched.

    \b
    Examples:
      shardcam verify runs/photos
      shardcam verify runs/photos --deep --repair
    """
    run_dir = RunDir.open(run)
    manifest = read_manifest(run_dir)
    with run_dir.lock() if repair else nullcontext():  # else what is judged may be replaced
        _verify(run_dir, manifest, deep, repair)


def _verify(run_dir: RunDir, manifest: Manifest, deep: bool, repair: bool) -> None:
    run, console = str(run_dir.home), make_console()
    if deep:
        require_codec(run_dir, manifest)
    _require_listing(run_dir, manifest, deep)
    planned = manifest.plan["shards"]
    held = [number for number in run_dir.shard_numbers() if number < planned]
    checked = (
        (number, check_shard(shard, number, manifest.fingerprint, deep))
        for number, shard in run_dir.open_shards(held)
    )
    damaged = {number: problem for number, problem in checked if problem}
    missing = planned - len(held)
    gaps = [*islice(_gaps(held, planned), NAMED)]
    named = sum(last - first + 1 for first, last in gaps)
    problems = damaged | {gap[0]: f"{_shards(run_dir, *gap)}: missing" for gap in gaps}
    for _, problem in sorted(problems.items()):
        console.print(problem, soft_wrap=True)
    if missing > named:
        console.print(f"and {missing - named} more are missing")
    if problems:
        count, of = len(damaged) + missing, counted(planned, "shard")
        note = f"{run}: {count} of {of} missing or damaged"
        if repair:
            moved = _move_damaged(run_dir, manifest, set(damaged), deep)
            note += f"; {moved} moved to {run_dir.place(run_dir.damaged)}"
            if moved:
                run_dir.remove(run_dir.index)  # plain h5py would read invented rows from it
        elif damaged:
            note += "; verify --repair moves damaged ones aside"
        raise RunDirectoryError(f"{note}; the same extract command goes on and computes them")
    shards = [read_shard_summary(shard) for _, shard in run_dir.open_shards(held)]
    account = Account.of(shards)
    if wrong := account.problem(manifest.plan["samples"]):
        raise RunDirectoryError(f"{run}: {wrong}")
    without = sum(not shard.checksum for shard in shards)
    if deep and without:
        of = counted(len(shards), "shard")
        note = f"{run}: no file checksum in {without} of {of}, of an earlier version"
        console.print(note, soft_wrap=True)
    how = "every byte read" if deep else "counts and fingerprints"
    note = f"{account.listed} listed = {account.ok} ok + {account.failed} failed"
    console.print(f"{run}: {note}; all shards good ({how})")
    check_index(run_dir, manifest.fingerprint, deep)
    require_own_rows(run_dir)
    if deep and (metrics := list(damaged_metrics(run_dir))):
        for problem in metrics:
            console.print(problem, soft_wrap=True)
        raise RunDirectoryError(f"{run}: what was measured is damaged; evaluate --replace mends it")
    if deep and (clusters := list(damaged_clusters(run_dir))):
        for problem in clusters:
            console.print(problem, soft_wrap=True)
        raise RunDirectoryError(f"{run}: clusters are damaged; cluster --replace mends them")


def _gaps(held: Iterable[int], planned: int) -> Iterator[tuple[int, int]]:
    """The first and the last of missing shards that follow each other."""
    for before, after in pairwise((-1, *sorted(held), planned)):
        if after - before > 1:
            yield before + 1, after - 1


def _shards(run_dir: RunDir, first: int, last: int) -> str:
    name = str(run_dir.shard(first))
    return name if first == last else f"{name} to {PurePath(str(run_dir.shard(last))).name}"


def _move_damaged(run_dir: RunDir, manifest: Manifest, numbers: set[int], deep: bool) -> int:
    """Move shards aside that are still damaged when they are opened again; how many."""
    still = [
        number
        for number in sorted(numbers & set(run_dir.shard_numbers()))
        if check_shard(run_dir.shard(number), number, manifest.fingerprint, deep)
    ]
    for number in still:
        move_to_damaged(run_dir, number)
    return len(still)


def _require_listing(run_dir: RunDir, manifest: Manifest, deep: bool) -> None:
    run_dir.fetch(run_dir.listing)
    listing = Listing(run_dir.listing)
    digest = listing_digest(listing) if deep else listing.facts.digest
    if digest != manifest.source:
        place = run_dir.place(run_dir.listing)
        raise RunDirectoryError(f"{place}: belongs to another run than {run_dir.run_json.name}")
