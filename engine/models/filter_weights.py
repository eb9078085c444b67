"""The filters of a network's convolutions, as they are stored."""

from __future__ import annotations

import difflib

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Node, cut
from shardcam.engine.models.layer_names import FEATURES, layer_shapes
from shardcam.engine.types import F4


def filters_of(network: NetworkDefinition, layer: str | None = None) -> tuple[str, F4]:
    """Name and (N,M,kh,kw) weights of a convolution: N filters of M input channels.

    Of a grouped convolution M are the channels of one group. Without `layer`, the network's
    first convolution.

    Raises
    ------
    ConfigError
        The layer is not a convolution, or the network has none.
    """
    nodes = {node.name: node for node in network.graph.nodes if _weights(network, node) is not None}
    if not nodes:
        raise ConfigError(f"{network.name} has no convolution, and so no filters")
    node = nodes.get(layer.removesuffix("_output")) if layer else next(iter(nodes.values()))
    weights = None if node is None else _weights(network, node)
    if node is None or weights is None:
        near = difflib.get_close_matches(str(layer), nodes, n=3, cutoff=0.5) or list(nodes)[:3]
        raise ConfigError(
            f"--layer: {layer} has no filters of its own; convolutions near it: {', '.join(near)}"
        )
    return node.name, _without_padding(weights)


def _without_padding(weights: F4) -> F4:
    """Without the first rows and columns that are zero in all filters: they only pad the input."""
    rows, columns = (np.flatnonzero(weights.any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2)))
    return weights[:, :, rows[0] :, columns[0] :] if len(rows) else weights


def _weights(network: NetworkDefinition, node: Node) -> F4 | None:
    if node.op != "Convolution":
        return None
    weights = network.parameters.get(network.graph.nodes[node.inputs[1][0]].name)
    return weights if weights is not None and weights.ndim == 4 else None


def stages(network: NetworkDefinition) -> list[str]:
    """A layer for each resolution, from the input to the logits, which come last.

    Each is the last feature layer of its size that every path to the logits goes through.
    """
    shapes = layer_shapes(network)
    found: dict[tuple[int, ...], str] = {}
    for node in reversed(network.graph.nodes):
        size = shapes.get(node.name, ())[1:]
        new = len(size) == 2 and min(size) > 1 and size not in found
        if new and node.op in FEATURES and _is_passage(network, node.name):
            found[size] = node.name
    return [*reversed(found.values()), network.graph.nodes[network.graph.heads[0][0]].name]


def _is_passage(network: NetworkDefinition, layer: str) -> bool:
    return len(cut(network.graph, layer, network.parameters).crossing) == 1
