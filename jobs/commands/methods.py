"""``shardcam methods``: what each CAM method needs, and where it comes from."""

from __future__ import annotations

import click
from rich.table import Table

from shardcam.jobs.terminal import make_console


@click.command()
def methods() -> None:
    """List the CAM methods: what each needs, and where it comes from.

    \b
    Example:
      shardcam methods
    """
    from shardcam.engine.methods import METHODS

    table = Table(box=None)
    table.add_column("method", no_wrap=True)
    table.add_column("needs")
    table.add_column("source")
    for name, method in METHODS.items():
        table.add_row(name, method.needs, method.paper)
    console = make_console()
    console.print(table)
    blind = ", ".join(name for name, method in METHODS.items() if not method.per_class)
    for line in (
        "",
        f"These do not depend on the class: {blind}.",
        "A gradient is known in closed form where global average pooling and one dense layer "
        "follow the layer (shardcam layers says where); else it takes one backward pass "
        "through the head, for all classes of an image together.",
        "--smooth aug makes six passes in place of one; --smooth eigen adds a small eigenproblem "
        "for each class. --fuse joins the heatmaps of several layers.",
    ):
        console.print(line, soft_wrap=True)
