"""The ``shardcam`` command: one place where an error becomes a line and an exit code."""

from __future__ import annotations

import sys
import traceback

import click

from shardcam.engine.errors import InternalError, Interrupted, ShardcamError
from shardcam.jobs.commands.activations import activations
from shardcam.jobs.commands.demo import demo
from shardcam.jobs.commands.doctor import doctor
from shardcam.jobs.commands.export import export
from shardcam.jobs.commands.extract import extract
from shardcam.jobs.commands.filters import filters
from shardcam.jobs.commands.index import index
from shardcam.jobs.commands.jobs import jobs
from shardcam.jobs.commands.layers import layers
from shardcam.jobs.commands.methods import methods
from shardcam.jobs.commands.render import render
from shardcam.jobs.commands.report import report
from shardcam.jobs.commands.retry_failed import retry_failed
from shardcam.jobs.commands.status import status
from shardcam.jobs.commands.submit import submit
from shardcam.jobs.commands.throughput import throughput
from shardcam.jobs.commands.train_mnist import train_mnist
from shardcam.jobs.commands.verify import verify


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
