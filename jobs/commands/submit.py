"""``shardcam submit``: a run as a job of a Ray cluster, followed to its end."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from shardcam.jobs.cluster.ray_jobs import DEFAULT_ADDRESS, RayJobs
from shardcam.jobs.cluster.submission import make_submission, ray_command, require_submittable
from shardcam.jobs.cluster.work import retry_option, work_of
from shardcam.jobs.config_file import config_yaml
from shardcam.jobs.options import run_options_but
from shardcam.jobs.sections import SectionedCommand, SectionedOption
from shardcam.jobs.terminal import as_utf8, make_console

_job_option = partial(click.option, cls=SectionedOption, section="Job")
dashboard_option = _job_option(
    "--address",
    metavar="URL",
    help="The cluster's dashboard, http://HOST:8265  [default: RAY_API_SERVER_ADDRESS, else "
    f"RAY_ADDRESS, else {DEFAULT_ADDRESS}]",
)


@click.command(cls=SectionedCommand)
@run_options_but({"address": dashboard_option})
@click.option(
    "--print-config", is_flag=True, help="Print these options as a file for --config, and exit."
)
@retry_option
@_job_option("--detach", is_flag=True, help="Return as soon as the job is submitted.")
@_job_option(
    "--paths-on-cluster",
    is_flag=True,
    help="All paths are absolute and exist on the cluster; do not look for them here.",
)
@_job_option(
    "--program",
    default="shardcam",
    show_default=True,
    help="Command that starts shardcam on the cluster, such as /opt/shardcam/bin/shardcam.",
)
@_job_option(
    "--send-code",
    is_flag=True,
    help="Upload the code of this shardcam and run it; the cluster provides the libraries.",
)
def submit(
    print_config: bool,
    retry_failed: str | None,
    detach: bool,
    paths_on_cluster: bool,
    program: str,
    send_code: bool,
    **options: Any,
) -> None:
    """Extract class activation maps of SOURCE as a job of a Ray cluster.

    Takes the options of extract. Follows the log of the job and exits as the job does: with
    the exit code of extract, or with 4 if the job was stopped. Run the same command again to
    resume. --retry-failed does as `shardcam retry-failed` instead.

    \b
    Examples:
      shardcam submit /data/photos --model efficientnet_lite0 --out /data/runs/photos \\
          --address http://head:8265
      shardcam submit --retry-failed /data/runs/photos --address http://head:8265
    """
    work = work_of(options, retry_failed, paths_on_cluster)
    if print_config:
        click.echo(as_utf8(config_yaml(work.config)), nl=False)
        return
    address = work.config.address
    require_submittable(work.config.model_copy(update={"address": None}), paths_on_cluster)
    jobs = RayJobs(address)
    submission = make_submission(work, program, send_code)
    jobs.submit(submission)
    console = make_console()
    console.print(f"submitted {submission.id} to {jobs.address}", soft_wrap=True)
    console.print(f"the same by Ray: {ray_command(submission, jobs.address)}", soft_wrap=True)
    if detach:
        console.print(f"follow it: shardcam jobs logs {submission.run} --follow", soft_wrap=True)
    else:
        jobs.follow(submission.id)
