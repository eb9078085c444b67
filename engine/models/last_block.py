"""Where the last block of a network begins that mixes positions by attention or dense layers.

pytorch-grad-cam recommends the first normalisation of a vision transformer's last block: behind
its attention nothing but the class token may matter, and gradients at other tokens are zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shardcam.engine.models.axis_parts import Axes, has_grid, is_grid
from shardcam.engine.models.graph import VARIABLE, Graph, cut, prune


def first_of_last_block(
    graph: Graph, axes: Mapping[str, Axes], maps: Collection[str], parameters: Collection[str]
) -> str | None:
    """Name of the last of `maps` before the last mixing of positions that all it reads comes from.

    Parameters
    ----------
    graph
        The network.
    axes
        As `engine.models.axis_parts.follow_axes` found them.
    maps
        Layers to choose from.
    parameters
        Names of the network's parameters.

    Returns
    -------
    str or None
        None if nothing mixes positions.
    """
    for number in reversed(range(len(graph.nodes))):
        if _mixes(graph, number, axes):
            before = prune(Graph(graph.nodes, ((number, 0),)))
            for i in reversed(range(len(before.nodes) - 1)):
                name = before.nodes[i].name
                wanted = name in maps and not _is_bias(before, i)
                if wanted and len(cut(before, name, parameters).crossing) == 1:
                    return name
    return None


def _mixes(graph: Graph, number: int, axes: Mapping[str, Axes]) -> bool:
    """It adds up values of different positions, which no convolution does."""
    node = graph.nodes[number]
    read = [axes.get(graph.nodes[source].name, ()) for source, _ in node.inputs]
    if node.op == "FullyConnected":
        whole = node.attrs.get("flatten", "True") in ("True", "1")
        return not whole and bool(read[0]) and is_grid(read[0][-1])
    if node.op != "batch_dot" or len(read[1]) != 3:
        return False
    return has_grid(read[1][2 if node.attrs.get("transpose_b") in ("True", "1") else 1])


def _is_bias(graph: Graph, number: int) -> bool:
    """It is what a dense layer adds."""
    sources = [graph.nodes[source] for source, _ in graph.nodes[number].inputs]
    dense = any(source.op == "FullyConnected" for source in sources)
    return dense and any(source.op == VARIABLE for source in sources)
