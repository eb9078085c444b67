"""``shardcam layers``: what can be explained in a network, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.completion import complete_model
from shardcam.jobs.options import chosen_options, make_config
from shardcam.jobs.sections import SectionedCommand
from shardcam.jobs.terminal import make_console, printable

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition
    from shardcam.engine.models.layouts import Layout


@click.command(cls=SectionedCommand)
@click.argument("model", shell_complete=complete_model)
@chosen_options("params", "output", "input", "rounding", "link", "image_size", "tokens")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="List every operator, including those without a map, which activations can show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def layers(model: str, everything: bool, as_json: bool, **options: Any) -> None:
    """List the layers of MODEL that a class activation map can be taken at.

    `below` is the share of the network's multiply-adds up to the layer. `gradient` says how
    the gradient is obtained: in closed form, or by a backward pass through the part above the
    layer only; it is zero where only class tokens are read of what follows. Dense layers have
    values, but no map. A second table has what was found out about the network's input and output.

    \b
    Examples:
      shardcam layers efficientnet_lite0
      shardcam layers model.onnx --all
      shardcam layers model.onnx --json
    """
    limit_threads(1)
    ready_libraries()
    from shardcam.engine.models.detected import detected
    from shardcam.engine.models.layer_names import auto_layer, map_layouts
    from shardcam.engine.run.network_choice import network_of

    config = make_config({**options, "model": model, "source": ".", "out": "."})
    network = network_of(config)
    auto, layouts = auto_layer(network), map_layouts(network)
    rows = layer_rows(network, auto, layouts, everything)
    facts = detected(network, auto, layouts[auto])
    if as_json:
        values = {name.replace(" ", "_"): fact.value for name, fact in facts.items()}
        found = {"model": model, "layers": rows, "detected": values, "remarks": network.remarks}
        click.echo(json.dumps(found, indent=2))
        return
    table = Table(box=None)
    elsewhere = ["lies as"] * any(row["lies_as"] for row in rows)
    for column in ("layer", "operator", "shape", "below", "gradient", *elsewhere):
        table.add_column(column, justify="right" if column in ("shape", "below") else "left")
    for row in rows:
        size, share = "x".join(map(str, row["shape"])), f"{row['below']:.1%}"
        mark = "  <- auto" if row["auto"] else ""
        cells = (row["name"], row["operator"], size, share, row["gradient"] + mark)
        table.add_row(*cells, *[row["lies_as"] or ""] * len(elsewhere))
    console = make_console()
    console.print(table)
    console.print()
    width = max(map(len, facts))
    for name, fact in facts.items():
        console.print(f"{name:{width}}  {printable(fact.text)}", soft_wrap=True, highlight=False)
    for remark in network.remarks:
        console.print(printable(remark), soft_wrap=True)


def layer_rows(
    network: NetworkDefinition, auto: str, layouts: Mapping[str, Layout], everything: bool
) -> list[dict[str, Any]]:
    """The layers to list: those whose maps people look at, or every operator."""
    from shardcam.engine.models.closed_form import may_be_pooled_dense
    from shardcam.engine.models.layer_names import FEATURES, idle_layers, layer_info, layer_shapes
    from shardcam.engine.models.multiply_adds import shares_below

    shapes = layer_shapes(network)
    below = shares_below(network, shapes)
    rows, idle, pooled = [], idle_layers(network), may_be_pooled_dense(network.graph)
    for node in network.graph.nodes:
        shape = shapes.get(node.name, ())
        spatial = node.name in layouts
        offered = spatial and (node.op in FEATURES or node.name == auto)
        if node.name not in below or not (everything or offered):
            continue
        closed_form = (
            spatial
            and node.name in pooled
            and layer_info(network, layouts, node.name, shape).closed_form
        )
        gradient = "closed form" if closed_form else "head backward" if spatial else "no map"
        gradient = "zero" if node.name in idle else gradient
        row = {"name": node.name, "operator": node.op, "shape": shape, "below": below[node.name]}
        lies_as = layouts[node.name].words if spatial and not layouts[node.name].is_map else None
        rows.append(row | {"gradient": gradient, "auto": node.name == auto, "lies_as": lies_as})
    return rows
