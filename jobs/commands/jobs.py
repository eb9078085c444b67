"""``shardcam jobs``: what was submitted to a Ray cluster."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import click
from rich.table import Table

from shardcam.engine.errors import ShardcamError
from shardcam.jobs.cluster.ray_jobs import RayJobs
from shardcam.jobs.cluster.submission import RUN_KEY
from shardcam.jobs.cluster.work import run_path
from shardcam.jobs.commands.submit import dashboard_option
from shardcam.jobs.terminal import make_console


@click.group("jobs")
def jobs() -> None:
    """List, follow and stop submitted jobs.

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

    \b
    Examples:
      shardcam jobs list
      shardcam jobs list /data/runs/photos
    """
    cluster = RayJobs(address)
    table = Table(box=None)
    for column in ("job", "state", "exit", "submitted (UTC)", "run"):
        table.add_column(column, no_wrap=True)
    for info in cluster.of_run(run_path(run)) if run else cluster.all():
        code = "" if info.driver_exit_code is None else str(info.driver_exit_code)
        table.add_row(
            info.submission_id, str(info.status), code, _when(info), info.metadata[RUN_KEY]
        )
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


def _when(info: Any) -> str:
    if info.start_time is None:
        return ""
    return f"{datetime.fromtimestamp(info.start_time / 1000, timezone.utc):%Y-%m-%d %H:%M:%S}"
