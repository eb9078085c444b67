"""``shardcam doctor``: is everything there that a run needs, and what to do where it is not."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from shardcam.engine.errors import ShardcamError
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.cluster.node_checks import check_cluster
from shardcam.jobs.measuring.machine_checks import CHECKS, examine
from shardcam.jobs.terminal import make_console

STYLES = {"ok": "green", "note": "yellow", "fail": "red"}


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder that runs will be written to; its disk is tried  [default: the current one]",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Check every node of this Ray cluster; auto: the cluster that this job runs on.",
)
def doctor(out: Path | None, address: str | None) -> None:
    """Check Python, libraries, kernels, threads, GPU, Ray and the disk of --out.

    Exits with 1 if something would keep a run from working.

    \b
    Examples:
      shardcam doctor --out runs
      shardcam doctor --address head:6379
    """
    if address is not None:
        found = check_cluster(address, out)
    else:
        limit_threads(1)
        found = {"": examine(CHECKS, out or Path())}
    table = Table(box=None, show_header=False)
    for node, findings in found.items():
        if node:
            table.add_row("", "node", node, style="bold")
        for name, finding in findings:
            table.add_row(Text(finding.state, STYLES[finding.state]), name, finding.text)
    make_console().print(table)
    failed = sum(one.state == "fail" for findings in found.values() for _, one in findings)
    if failed:
        raise ShardcamError(f"{failed} checks failed")
