"""``shardcam index``: rebuild the index over all shards of a run, or merge their rows into one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shardcam.engine.analysis.open_run import require_codec
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url
from shardcam.engine.rundir.merged_index import merge_index
from shardcam.engine.rundir.report_json import account_to_come
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, read_manifest
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.types import counted
from shardcam.jobs.completion import complete_path
from shardcam.jobs.outputs import require_new
from shardcam.jobs.plan_notes import many_shards
from shardcam.jobs.terminal import make_console, stop_on_signals


@click.command()
@click.argument("run", shell_complete=complete_path)
@click.option(
    "--merge",
    is_flag=True,
    help="Copy the rows into it: a file that needs no shards beside it, to hand on. It takes as "
    "much room as they do.",
)
@click.option(
    "--out", help="With --merge: the file to write; RUN stays as it is  [default: its index.h5]"
)
@click.option("--force", is_flag=True, help="Replace what is at --out.")
@stop_on_signals("the same command begins anew")
def index(run: str, merge: bool, out: str | None, force: bool) -> None:
    """Rebuild index.h5 of RUN from the shards that are there.

    extract does so at its end; this is for a run that was stopped, or whose index was
    deleted or damaged. A merged one stays until shards are computed again.

    \b
    Examples:
      shardcam index runs/photos
      shardcam index runs/photos --merge --out photos.h5
    """
    run_dir = RunDir.open(run)
    target = _target(run_dir, merge, out, force)
    manifest, console = read_manifest(run_dir), make_console()
    with run_dir.lock() if target is None else nullcontext():
        there = len(run_dir.shard_numbers())
        if not merge:
            build_index(run_dir)
        else:
            _merge(run_dir, manifest, there, target)
    made = target or run_dir.place(run_dir.index)
    held = "holds all rows itself, from" if merge else "over"
    console.print(
        f"{made}: {held} {there} of {counted(manifest.plan['shards'], 'shard')}", soft_wrap=True
    )
    if not merge and (note := many_shards(there)):
        console.print(note, soft_wrap=True)
    if target is None and (names := account_to_come(run_dir)):
        console.print(f"still to come: {names}, which the same extract command writes")


def _target(run_dir: RunDir, merge: bool, out: str | None, force: bool) -> Path | None:
    """Where a merged index goes that is not the run's."""
    if out is None:
        if force:
            raise ConfigError("--force is for --out")
        return None
    target = Path(out)
    if not merge:
        raise ConfigError("--out is for --merge: other indexes need the shards beside them")
    if is_url(out):
        raise ConfigError(f"--out {out}: takes a path; without --out the file goes into the run")
    if target.resolve().is_relative_to(run_dir.root.resolve()):
        raise ConfigError(f"--out {out}: is in the run; leave --out out to replace its index.h5")
    require_new("--out", target, force, [run_dir.home])
    return target


def _merge(run_dir: RunDir, manifest: Manifest, shards: int, target: Path | None) -> None:
    codec = require_codec(run_dir, manifest)
    console = make_console()
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=shards)
        merge_index(run_dir, codec, target, lambda: bar.advance(task))
