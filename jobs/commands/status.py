"""``shardcam status``: how far a run is, from its files alone."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import click
from rich.table import Table

from shardcam.engine.errors import RunDirectoryError, StoreError
from shardcam.engine.pipeline.bottleneck import find_bottleneck
from shardcam.engine.rundir.account import Account, good_shards
from shardcam.engine.rundir.event_log import Activity, read_events, summarize
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.report_json import run_notes
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.shard_file import ShardSummary, read_failures
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.plan_notes import note_rows, speed
from shardcam.jobs.terminal import make_console


@click.command()
@click.argument("run", shell_complete=complete_path)
def status(run: str) -> None:
    """Show the progress of RUN from its files alone, while it runs or afterwards.

    Shards and images done, failed and to do; speed, workers and the time of each stage.

    \b
    Example:
      shardcam status runs/photos
    """
    run_dir = RunDir.open(run)
    manifest = read_manifest(run_dir)
    planned = manifest.plan["shards"]
    damaged: list[RunDirectoryError] = []
    done = [*good_shards(run_dir, planned, manifest.fingerprint, damaged.append)]
    account, images = Account.of(done), manifest.plan["samples"]
    config = manifest.config
    table = Table(show_header=False, box=None)
    table.add_row("run", f"{run_dir.home}  ({manifest.fingerprint[:12]})")
    table.add_row("source", str(config["source"]))
    table.add_row("listing", _listing(run_dir))
    table.add_row("model", f"{config['model']}, {config['method']}, {config['target']}")
    table.add_row("shards", f"{account.shards} of {planned} done")
    if damaged:
        named = f"{counted(len(damaged), 'shard')}, first: {damaged[0]}"
        table.add_row("damaged", f"{named}; shardcam verify --repair moves them aside")
    table.add_row("images", f"{account.listed} of {images} done, {account.failed} of them failed")
    table.add_row("bytes", f"{account.bytes:,}")
    if account.failed:
        table.add_row("failures", _failures(run_dir, done))
    for kind, text in note_rows(run_notes(run_dir, account)):
        table.add_row(kind, text)
    run_dir.fetch(run_dir.events)
    activity = summarize(read_events(run_dir))
    _add_activity(table, activity)
    table.add_row("state", _state(run_dir, account.shards == planned, activity))
    make_console().print(table, soft_wrap=True)


def _add_activity(table: Table, activity: Activity) -> None:
    if (rate := activity.images_per_second) is not None:
        table.add_row("speed", f"{speed(rate)} over the last shards")
    stages = activity.stage_seconds.most_common()
    if stages:
        table.add_row("stages", ", ".join(f"{name} {value:.1f} s" for name, value in stages))
    found = find_bottleneck(activity.stage_seconds)
    if found:
        table.add_row("bottleneck", str(found))
    if activity.workers:
        hosts = Counter(facts["host"] for facts in activity.workers.values())
        named = ", ".join(f"{count} on {host}" for host, count in sorted(hosts.items()))
        table.add_row("workers", f"{named}; {activity.lost} lost so far")
    if activity.last:
        last = datetime.fromtimestamp(activity.last, timezone.utc)
        ended = f", the last command ended: {activity.outcome}" if activity.outcome else ""
        table.add_row("last event", f"{last:%Y-%m-%d %H:%M:%S} UTC{ended}")


def _failures(run_dir: RunDir, done: list[ShardSummary]) -> str:
    """Failures by reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for _, shard in run_dir.open_shards([summary.shard for summary in done if summary.failed]):
        reasons.update(failure.error for failure in read_failures(shard))
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _state(run_dir: RunDir, complete: bool, activity: Activity) -> str:
    holder = run_dir.lock_holder()
    if holder:
        return f"running: {holder}"
    if complete:
        return "complete"
    why = ""
    if activity.commands and activity.outcome is None:  # the log has no end of it
        why = " (its last command was killed, or runs on a host whose lock is not seen here)"
    return f"incomplete{why}; the same extract command resumes it"


def _listing(run_dir: RunDir) -> str:
    run_dir.fetch(run_dir.listing)
    try:
        listing = Listing(run_dir.listing)
    except (RunDirectoryError, StoreError) as error:
        return str(error)
    return f"{counted(len(listing), 'image')}, {listing.created:%Y-%m-%d %H:%M} UTC"
