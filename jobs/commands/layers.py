"""``shardcam layers``: what can be explained in a network, and how."""

from __future__ import annotations

import click
from rich.table import Table

from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.types import counted
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.completion import complete_model, complete_path
from shardcam.jobs.terminal import make_console


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--params", shell_complete=complete_path, help="Weights of a zoo network or symbol file."
)
@click.option("--image-size", type=int, help="Height and width of the network's input.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="List every operator, including those without a map, which activations can show.",
)
def layers(model: str, params: str | None, image_size: int | None, everything: bool) -> None:
    """List the layers of MODEL that a class activation map can be taken at.

    `below` is the share of the network's multiply-adds up to the layer. `gradient` says how
    the gradient is obtained: in closed form, or by a backward pass through the part above the
    layer only; dense layers have values, but no map.

    \b
    Examples:
      shardcam layers efficientnet_lite0
      shardcam layers model.onnx --all
    """
    limit_threads(1)
    ready_libraries()
    from shardcam.engine.models.input_scaling import scaling_node
    from shardcam.engine.models.layer_names import (
        FEATURES,
        auto_layer,
        class_count,
        layer_info,
        layer_shapes,
    )
    from shardcam.engine.models.load_network import load_network
    from shardcam.engine.models.multiply_adds import shares_below

    network = load_network(model, params, image_size)
    shapes = layer_shapes(network)
    below = shares_below(network, shapes)
    auto = auto_layer(network)
    table = Table(box=None)
    for column in ("layer", "operator", "shape", "below", "gradient"):
        table.add_column(column, justify="right" if column in ("shape", "below") else "left")
    for node in network.graph.nodes:
        shape = shapes.get(node.name, ())
        spatial = len(shape) == 3
        offered = spatial and (node.op in FEATURES or node.name == auto)
        if node.name not in below or not (everything or offered):
            continue
        closed_form = spatial and layer_info(network, node.name, shape).closed_form
        gradient = "closed form" if closed_form else "head backward" if spatial else "no map"
        mark = "  <- auto" if node.name == auto else ""
        size = "x".join(map(str, shape))
        table.add_row(node.name, node.op, size, f"{below[node.name]:.1%}", gradient + mark)
    console = make_console()
    console.print(table)
    seen = network.preprocessing
    channels, height, width = seen.input_shape
    source = "assumed, set --mean and --std if wrong" if network.assumed else "the model's own"
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (seen.mean, seen.std))
    console.print(f"input {channels}x{height}x{width}, {counted(class_count(network), 'class')}")
    text = f"preprocessing (RGB - [{mean}]) / [{std}], 0-255 scale: {source}"
    console.print(text, soft_wrap=True)
    scaling = scaling_node(network)
    remarks = [f"it scales its input itself: {scaling.name}"] if scaling else []
    for remark in (*remarks, *network.remarks):
        console.print(remark, soft_wrap=True)
