"""``shardcam methods``: what each CAM method needs, and where it comes from."""

from __future__ import annotations

import click
from rich.table import Table

from jobs.terminal import make_console


@click.command()
def methods() -> None:
    """List the CAM methods: what they need of the network, and what they cost.

    The cost is what comes on top of the one forward pass that every run makes, for K classes
    of an image and C channels of the layer. `closed form` is the cost where global average
    pooling and one dense layer follow the layer; shardcam layers says where that is so.
    """
    from engine.methods import METHODS

    table = Table(box=None)
    for column in ("method", "needs", "cost", "closed form", "source"):
        table.add_column(column)
    for name, method in METHODS.items():
        closed_form = method.closed_form or "the same"
        mark = "" if method.per_class else ", whatever the class"
        table.add_row(name, method.needs, method.cost + mark, closed_form, method.paper)
    console = make_console()
    console.print(table)
    console.print("\n--smooth aug makes six passes in place of one; --smooth eigen adds a small")
    console.print("eigenproblem for each class. --fuse joins the heatmaps of several layers.")
