"""Multiply-adds of a network, from its graph and shapes alone."""

from __future__ import annotations

from ast import literal_eval
from math import prod

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Node, ancestors


def shares_below(
    network: NetworkDefinition, shapes: dict[str, tuple[int, ...]]
) -> dict[str, float]:
    """Share of the network's multiply-adds that each layer's value needs, 0 to 1.

    Convolutions and dense layers count; what is left is below 1 % of a CNN.
    """
    graph, costs = network.graph, _costs(network, shapes)
    total = max(multiply_adds(network, shapes), 1)
    return {
        graph.nodes[i].name: sum(costs[j] for j in ancestors(graph, [(i, 0)])) / total
        for i in ancestors(graph, graph.heads)
        if graph.nodes[i].name in shapes
    }


def multiply_adds(network: NetworkDefinition, shapes: dict[str, tuple[int, ...]]) -> int:
    """Those of the whole network, for one image."""
    costs = _costs(network, shapes)
    return sum(costs[i] for i in ancestors(network.graph, network.graph.heads))


def _costs(network: NetworkDefinition, shapes: dict[str, tuple[int, ...]]) -> list[int]:
    return [_multiply_adds(node, network, shapes) for node in network.graph.nodes]


def _multiply_adds(
    node: Node, network: NetworkDefinition, shapes: dict[str, tuple[int, ...]]
) -> int:
    if node.op not in ("Convolution", "Deconvolution", "FullyConnected"):
        return 0
    weight = network.parameters.get(network.graph.nodes[node.inputs[1][0]].name)
    if weight is None or node.name not in shapes:
        return 0
    if node.op == "FullyConnected":  # on each token, where it does not flatten
        return int(weight.size) * max(prod(shapes[node.name]) // len(weight), 1)
    pixels = prod(shapes[node.name][1:])
    if node.op == "Deconvolution":
        pixels //= prod(literal_eval(node.attrs.get("stride", "(1, 1)")))
    return int(weight.size) * pixels
