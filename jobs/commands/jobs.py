"""``shardcam jobs``: what was submitted to a Ray cluster."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from typing import Any

import click
from rich.table import Table

from shardcam.engine.errors import ShardcamError
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.cluster.ray_jobs import RayJobs
from shardcam.jobs.cluster.submission import RUN_KEY
from shardcam.jobs.cluster.work import run_path
from shardcam.jobs.commands.submit import dashboard_option
from shardcam.jobs.terminal import make_console


@click.group("jobs")
def jobs() -> None:
    """List, follow, await and stop submitted jobs.

    RUN is a run directory or a submission id.

    \b
    Examples:
      shardcam jobs list --address http://head:8265
      shardcam jobs logs /data/runs/photos --follow
    """


@jobs.command("list")
@click.argument("run", required=False)
@dashboard_option
def list_jobs(run: str | None, address: str | None) -> None:
    """List submitted jobs, the latest first.

    With the shards that are done of runs that can be seen from here.

    \b
    Examples:
      shardcam jobs list
      shardcam jobs list /data/runs/photos
    """
    cluster = RayJobs(address)
    table = Table(box=None)
    for column in ("job", "state", "exit", "submitted (UTC)", "shards", "run"):
        table.add_column(column, no_wrap=True)
    shards = cache(_shards)
    for info in cluster.of_run(run_path(run)) if run else cluster.all():
        code = "" if info.driver_exit_code is None else str(info.driver_exit_code)
        of = info.metadata[RUN_KEY]
        table.add_row(info.submission_id, str(info.status), code, _when(info), shards(of), of)
    make_console().print(table)


@jobs.command()
@click.argument("run")
@dashboard_option
@click.option(
    "--follow", is_flag=True, help="Follow the log until the job ends, and exit as the job does."
)
def logs(run: str, address: str | None, follow: bool) -> None:
    """Print the log of the latest job of RUN.

    \b
    Example:
      shardcam jobs logs /data/runs/photos --follow
    """
    cluster = RayJobs(address)
    job = _latest(cluster, run)
    if follow:
        cluster.follow(job.submission_id)
    else:
        click.echo(cluster.logs(job.submission_id), nl=False)


@jobs.command()
@click.argument("run")
@dashboard_option
def wait(run: str, address: str | None) -> None:
    """Wait for the end of the latest job of RUN, and exit as it does.

    Ctrl-C ends the waiting, not the job.

    \b
    Example:
      shardcam jobs wait /data/runs/photos && shardcam report /data/runs/photos
    """
    cluster = RayJobs(address)
    job = _latest(cluster, run)
    cluster.follow(job.submission_id, log=False)
    make_console().print(f"{job.submission_id} succeeded")


@jobs.command()
@click.argument("run")
@dashboard_option
def stop(run: str, address: str | None) -> None:
    """Stop the latest job of RUN.

    Finished shards stay; the same submit resumes the run.

    \b
    Example:
      shardcam jobs stop /data/runs/photos
    """
    cluster = RayJobs(address)
    job = _latest(cluster, run)
    if job.status.is_terminal():
        raise ShardcamError(f"{job.submission_id} has ended already: {job.status}")
    cluster.stop(job.submission_id)
    make_console().print(f"{job.submission_id} is stopped; the same submit resumes the run")


def _latest(cluster: RayJobs, run: str) -> Any:
    """The latest job of a run directory, or the job of that id."""
    path = run_path(run)
    for info in cluster.all():
        if run == info.submission_id or path == info.metadata[RUN_KEY]:
            return info
    raise ShardcamError(f"{run}: {cluster.address} has no job for it; see shardcam jobs list")


def _shards(run: str) -> str:
    """How many shards of a run are done; nothing where it cannot be seen from here, or now."""
    with suppress(ShardcamError):
        run_dir = RunDir.open(run)
        planned = read_manifest(run_dir).plan["shards"]
        return f"{len(run_dir.shard_numbers())} of {planned}"
    return ""


def _when(info: Any) -> str:
    if info.start_time is None:
        return ""
    return f"{datetime.fromtimestamp(info.start_time / 1000, timezone.utc):%Y-%m-%d %H:%M:%S}"
