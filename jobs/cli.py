"""The ``shardcam`` command: one place where an error becomes a line and an exit code."""

from __future__ import annotations

import sys
import traceback

import click

from shardcam.engine.errors import InternalError, Interrupted, ShardcamError
from shardcam.jobs.activations import activations
from shardcam.jobs.demo import demo
from shardcam.jobs.doctor import doctor
from shardcam.jobs.export import export
from shardcam.jobs.extract import extract
from shardcam.jobs.filters import filters
from shardcam.jobs.index import index
from shardcam.jobs.layers import layers
from shardcam.jobs.methods import methods
from shardcam.jobs.render import render
from shardcam.jobs.report import report
from shardcam.jobs.retry import retry_failed
from shardcam.jobs.status import status
from shardcam.jobs.submit import submit
from shardcam.jobs.submitted import jobs
from shardcam.jobs.throughput import throughput
from shardcam.jobs.train_mnist import train_mnist
from shardcam.jobs.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="shardcam")
def cli() -> None:
    """Class activation maps of convolutional networks, over image sets of any size.

    \b
    Exit codes: 0 done, 1 error, 2 wrong usage, 3 too many samples failed,
    4 interrupted (the same command resumes), 5 disk full (the same command resumes).
    """


for _command in (
    extract,
    submit,
    jobs,
    render,
    export,
    report,
    status,
    verify,
    retry_failed,
    index,
    layers,
    filters,
    activations,
    methods,
    throughput,
    train_mnist,
    doctor,
    demo,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    try:
        cli(prog_name="shardcam")
    except (ShardcamError, Interrupted) as error:
        click.echo(f"shardcam: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        met, trace = "", traceback.format_exc().rstrip()
        if isinstance(error, InternalError):  # a worker's traceback is the one that tells
            met, trace = f", met {error.where}", error.trace
        told = f"shardcam: this is a bug{met}; please report it with all of the text above"
        click.echo(f"{trace}\n{told}", err=True)
        sys.exit(1)
