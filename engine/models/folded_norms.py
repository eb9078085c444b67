"""Normalisations folded into the convolutions before them.

MXNet's fusion folds them too, but where nobody sees the weights that it then rounds to int8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Entry, Node, ancestors


def with_folded_norms(
    definition: NetworkDefinition, entries: Collection[Entry]
) -> NetworkDefinition:
    """The same values of `entries` with as few ``BatchNorm`` as can be.

    Every node keeps its number: a convolution takes the place of the normalisation after it,
    and what that added is its bias.
    """
    graph, parameters = definition.graph, dict(definition.parameters)
    nodes = {number: graph.nodes[number] for number in sorted(ancestors(graph, entries))}
    reads = Counter(entry for node in nodes.values() for entry in node.inputs)
    reads.update(entries)

    def own(node: Node) -> list[str] | None:
        """Names of an operator's parameters, if nothing else reads them."""
        names = [graph.nodes[source].name for source, _ in node.inputs[1:]]
        alone = all(reads[entry] == 1 for entry in node.inputs[1:])
        return names if alone and parameters.keys() >= {*names} else None

    changed = [*graph.nodes]
    for number, norm in nodes.items():
        if norm.op != "BatchNorm" or reads[norm.inputs[0]] != 1:
            continue
        before = graph.nodes[norm.inputs[0][0]]
        weights, statistics = own(before), own(norm)
        if weights is None or statistics is None or not _is_by_channel(before, norm):
            continue
        gamma, beta, mean, variance = (parameters[name].astype(np.float64) for name in statistics)
        scale = np.sqrt(variance + float(norm.attrs.get("eps", 1e-3))) ** -1
        if norm.attrs.get("fix_gamma", "True") not in ("True", "1"):
            scale = gamma * scale
        weight = parameters[weights[0]]
        bias = parameters[weights[1]] if len(weights) > 1 else 0
        parameters[weights[0]] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(
            np.float32
        )
        parameters[statistics[1]] = (beta + scale * (bias - mean)).astype(np.float32)
        inputs = (*before.inputs[:2], norm.inputs[2])
        attrs = before.attrs | {"no_bias": "False"}
        changed[number] = Node("Convolution", norm.name, attrs, inputs)
    return replace(definition, graph=replace(graph, nodes=tuple(changed)), parameters=parameters)


def _is_by_channel(convolution: Node, norm: Node) -> bool:
    axis = norm.attrs.get("axis", "1")
    layout = convolution.attrs.get("layout", "None")
    return convolution.op == "Convolution" and axis == "1" and not layout.endswith("C")
