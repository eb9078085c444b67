"""Where the last block of a network begins that mixes positions by attention or dense layers.

pytorch-grad-cam recommends the first normalisation of a vision transformer's last block: behind
its attention nothing but the class token may matter, and gradients at other tokens are zero.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Collection, Mapping
from math import prod

from shardcam.engine.models.axis_parts import TOKENS, Axes, has_grid, is_grid
from shardcam.engine.models.graph import (
    VARIABLE,
    Graph,
    Node,
    ancestors,
    cut,
    descendants,
    prune,
)
from shardcam.engine.types import F4


def first_of_last_block(
    graph: Graph, axes: Mapping[str, Axes], maps: Collection[str], parameters: Collection[str]
) -> str | None:
    """Name of the layer from which the last mixing of positions takes what it mixes.

    It is the normalisation of what is added to that again, or else the last of `maps` that all
    that is mixed comes from.

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
            if name := _normalised(graph, number, maps):
                return name
            before = prune(Graph(graph.nodes, ((number, 0),)))
            for i in reversed(range(len(before.nodes) - 1)):
                name = before.nodes[i].name
                wanted = name in maps and not _is_bias(before, i)
                if wanted and len(cut(before, name, parameters).crossing) == 1:
                    return name
    return None


def _normalised(graph: Graph, number: int, maps: Collection[str]) -> str | None:
    """The normalisation that a node depends on, of a tensor to which its result is added."""
    mixed = descendants(graph, number) | {number}
    sources = ancestors(graph, [(number, 0)])
    for i in sorted(mixed):
        if graph.nodes[i].op not in ("elemwise_add", "broadcast_add"):
            continue
        added = {source for source, _ in graph.nodes[i].inputs} - mixed
        for j in sorted(sources, reverse=True):
            node = graph.nodes[j]
            if node.op == "LayerNorm" and node.name in maps and node.inputs[0][0] in added:
                return node.name
    return None


def counts(graph: Graph, name: str, axes: Mapping[str, Axes], parameters: Mapping[str, F4]) -> bool:
    """Whether the picture's tokens of a layer can change the logits.

    They cannot if nothing follows that mixes tokens, and only others are taken then.
    """
    mixed = {graph.number(name): False}  # of what depends on the layer
    for number, node in enumerate(graph.nodes):
        read = [source for source, _ in node.inputs if source in mixed]
        if not read or number in mixed:
            continue
        if any(mixed[source] for source in read) or _mixes_tokens(graph, number, axes):
            mixed[number] = True
        elif not _takes_others(graph, node, axes, parameters):
            mixed[number] = False
    return any(number in mixed for number, _ in graph.heads)


def _mixes_tokens(graph: Graph, number: int, axes: Mapping[str, Axes]) -> bool:
    node = graph.nodes[number]
    read = axes.get(graph.nodes[node.inputs[0][0]].name, ())
    along = read[-1:] if node.op in ("LayerNorm", "softmax", "log_softmax") else ()
    return node.op == "batch_dot" or any(map(has_grid, along)) or _mixes(graph, number, axes)


def _takes_others(
    graph: Graph, node: Node, axes: Mapping[str, Axes], parameters: Mapping[str, F4]
) -> bool:
    """It takes tokens, and none of them is the picture's."""
    if node.op not in ("slice_axis", "take"):
        return False
    sources = [graph.nodes[source].name for source, _ in node.inputs]
    read = axes.get(sources[0], ())
    along = int(node.attrs.get("axis", "0"))
    part = read[along][0] if len(read) > along and read[along] else None
    if part is None or part.kind != TOKENS:
        return False
    if node.op == "take":
        index = parameters.get(sources[1])
        taken = range(part.size) if index is None else index.reshape(-1).astype(int).tolist()
    else:
        begin, end = (literal_eval(node.attrs[key]) for key in ("begin", "end"))
        taken = range(part.size)[begin:end]
    stop = part.before + prod(p.size for p in part.inside)
    return not any(part.before <= i < stop for i in taken)


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
