"""``shardcam status``: how far a run is, from its files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from shardcam.engine.errors import Interrupted
from shardcam.engine.evaluation.unfinished import unfinished_words
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.run_status import RUNNING, Evaluating, NodeStatus, RunStatus, read_status
from shardcam.jobs.terminal import make_console, stop_on_signals
from shardcam.jobs.wording import duration, note_rows, speed

EVERY = 5.0  # seconds between two looks


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option("--workers", is_flag=True, help="List every worker of the last command, too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object; with --watch, one a line."
)
@click.option(
    "--watch",
    metavar="[SECONDS]",
    type=click.FloatRange(0.1),
    is_flag=False,
    flag_value=EVERY,
    help=f"Look again so often, {EVERY:g} s if no number follows, until RUN is complete and nobody "
    "measures it, or Ctrl-C.",
)
def status(run: str, workers: bool, as_json: bool, watch: float | None) -> None:
    """Show the progress of RUN from its files alone, while it runs or afterwards.

    Shards and images done, failed and to do; speed, time left, nodes and the time of each stage;
    what `evaluate` is measuring, and how fast.

    \b
    Examples:
      shardcam status runs/photos
      shardcam status runs/photos --watch --workers
      shardcam status runs/photos --json
    """
    run_dir, console = RunDir.open(run), make_console()
    if watch is None:
        found = read_status(run_dir)
        if as_json:
            click.echo(json.dumps(asdict(found), indent=2))
        else:
            console.print(_shown(found, workers), soft_wrap=True)
        return
    with suppress(Interrupted), stop_on_signals("it may be watched again"):
        if as_json:
            for found in _watched(run_dir, watch):
                click.echo(json.dumps(asdict(found)))
        else:
            _watch(run_dir, watch, workers, console)


def _watched(run_dir: RunDir, seconds: float) -> Iterator[RunStatus]:
    """Look at a run until it is complete."""
    while True:
        yield (found := read_status(run_dir))
        if not found.goes_on:
            return
        time.sleep(seconds)


def _watch(run_dir: RunDir, seconds: float, workers: bool, console: Console) -> None:
    if not console.is_terminal:
        for found in _watched(run_dir, seconds):
            console.print(_shown(found, workers), "", soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        for found in _watched(run_dir, seconds):
            live.update(_shown(found, workers), refresh=True)


def _shown(found: RunStatus, workers: bool) -> RenderableType:
    table = Table(show_header=False, box=None)
    for name, value in _rows(found):
        table.add_row(name, value)
    return Group(table, "", _worker_table(found)) if workers and found.workers else table


def _rows(found: RunStatus) -> Iterator[tuple[str, str]]:
    yield "run", f"{found.run}  ({found.fingerprint[:12]})" if found.fingerprint else found.run
    yield "source", found.source
    yield "listing", found.listing
    if not found.fingerprint:
        yield "state", found.told
        return
    yield "model", f"{found.model}, {found.method}, {found.target}"
    yield "shards", f"{found.shards_done} of {found.shards} done"
    if found.damaged:
        named = f"{counted(len(found.damaged), 'shard')}, first: {found.damaged[0]}"
        yield "damaged", f"{named}; shardcam verify --repair moves them aside"
    yield (
        "images",
        f"{found.images_done} of {found.images} done, {found.images_failed} of them failed",
    )
    yield "bytes", f"{found.bytes:,}"
    if found.failures:
        yield "failures", ", ".join(f"{n} {reason}" for reason, n in found.failures.items())
    for number, words in enumerate(unfinished_words(found.unfinished)):
        yield "" if number else "metrics", words
    if found.evaluating is not None:
        yield "", _evaluating(found.evaluating)
    yield from note_rows(found.notes)
    if found.images_per_second is not None:
        left = "" if found.seconds_left is None else f", {duration(found.seconds_left)} left"
        yield "speed", f"{speed(found.images_per_second)} over the last shards{left}"
    if stages := found.stage_seconds:
        yield "stages", ", ".join(f"{name} {value:.1f} s" for name, value in stages.items())
    if found.bottleneck:
        yield "bottleneck", found.bottleneck
    for number, node in enumerate(found.nodes):
        yield "" if number else "workers", _node(node)
    if found.workers_lost:
        yield "lost", f"{counted(found.workers_lost, 'worker')} so far; each is replaced"
    if found.last_event:
        last = datetime.fromisoformat(found.last_event)
        ended = f", the last command ended: {found.outcome}" if found.outcome else ""
        yield "last event", f"{last:%Y-%m-%d %H:%M:%S} UTC{ended}"
    yield "state", found.told


def _evaluating(found: Evaluating) -> str:
    """Whoever measures metrics of the run is named before."""
    workers = f"by {counted(len(found.workers), 'worker')}" if found.workers else "starting"
    if found.images_per_second is None or found.seconds_left is None:
        return workers
    fast = f"{speed(found.images_per_second)} over the last shards"
    return f"{workers}, {fast}, {duration(found.seconds_left)} left"


def _node(node: NodeStatus) -> str:
    rate = node.images_per_second
    fast = "" if rate is None else f", {speed(rate)}"
    return f"{node.workers} on {node.host}: {counted(node.images, 'image')}{fast}"


def _worker_table(found: RunStatus) -> Table:
    table = Table(box=None)
    for column in ("worker", "node", "process", "works on", "shards", "images", "images/s"):
        left = column in ("worker", "node", "works on")
        table.add_column(column, justify="left" if left else "right")
    for one in found.workers:
        works_on = ""
        if found.state == RUNNING and one.shard is not None and one.shard_since is not None:
            works_on = f"shard {one.shard} for {duration(time.time() - one.shard_since)}"
        rate = "" if one.images_per_second is None else f"{one.images_per_second:.1f}"
        pid = "" if one.pid is None else str(one.pid)
        table.add_row(one.worker, one.host, pid, works_on, str(one.shards), str(one.images), rate)
    return table
