"""``shardcam methods``: what each CAM method needs, and where it comes from."""

from __future__ import annotations

import click
from rich.table import Table

from shardcam.jobs.terminal import make_console


@click.command()
def methods() -> None:
    """List the CAM methods: what they need of the network, and what they cost.

    The cost of one class of an image is given in forward passes of the network, including the
    one that every run makes. It was measured on ResNet-50, where most gradients have a closed
    form (`shardcam layers` says where that is so), and on VGG16, where they take a backward
    pass through the head.

    \b
    Example:
      shardcam methods
    """
    from shardcam.engine.methods import METHODS

    table = Table(box=None)
    for column in ("method", "needs", "ResNet-50", "VGG16", "source"):
        table.add_column(column, justify="right" if column in ("ResNet-50", "VGG16") else "left")
    for name, method in METHODS.items():
        cost = ("" if value is None else f"{value:g}x" for value in method.cost)
        table.add_row(name, method.needs, *cost, method.paper)
    console = make_console()
    console.print(table)
    blind = ", ".join(name for name, method in METHODS.items() if not method.per_class)
    console.print(f"\nThe class plays no part in {blind}.", soft_wrap=True)
    console.print("--smooth aug makes six passes in place of one; --smooth eigen adds a small")
    console.print("eigenproblem for each class. --fuse joins the heatmaps of several layers.")
