"""Normalisations that become part of the convolution below them: a third of a GPU's time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from shardcam.engine.models.graph import VARIABLE, Entry, Graph, Node
from shardcam.engine.types import F4


def folded(
    graph: Graph, parameters: dict[str, F4], kept: Collection[Entry]
) -> tuple[Graph, dict[str, F4]]:
    """The same values but of the convolutions that a BatchNorm alone reads.

    Parameters
    ----------
    graph
        BatchNorm with stored statistics. Nodes keep their numbers: a folded BatchNorm becomes
        the convolution, and the convolution below is no longer read.
    parameters
        Of the graph.
    kept
        Entries whose values are wanted.

    Returns
    -------
    tuple
        The graph, and its parameters with the new kernels and biases.
    """
    nodes, values = list(graph.nodes), dict(parameters)
    readers = Counter([*(entry for n in nodes for entry in n.inputs), *graph.heads, *kept])
    added: list[Node] = []
    for number, node in enumerate(graph.nodes):
        if node.op != "BatchNorm" or node.attrs.get("axis", "1") != "1":
            continue
        source = node.inputs[0]
        below = graph.nodes[source[0]]
        names = [graph.nodes[i].name for i, _ in (*below.inputs[1:], *node.inputs[1:])]
        alone = below.op == "Convolution" and readers[source] == 1
        if not alone or any(name not in parameters for name in names):
            continue
        kernel, bias = _folded(below, node, [parameters[name] for name in names])
        new = f"{node.name}_kernel", f"{node.name}_bias"
        if {*new} & values.keys():
            continue
        values |= dict(zip(new, (kernel, bias), strict=True))
        first = len(graph.nodes) + len(added)
        added += [Node(VARIABLE, name) for name in new]
        attrs = below.attrs | {"no_bias": "False"}
        inputs = (below.inputs[0], (first, 0), (first + 1, 0))
        nodes[number] = replace(below, name=node.name, attrs=attrs, inputs=inputs)
    return Graph((*nodes, *added), graph.heads, graph.version), values


def _folded(convolution: Node, norm: Node, values: list[F4]) -> tuple[F4, F4]:
    *own, gamma, beta, mean, variance = (value.astype(np.float64) for value in values)
    if norm.attrs.get("fix_gamma", "True") in ("True", "1"):
        gamma = np.ones_like(gamma)
    with np.errstate(all="ignore"):  # as without folding, the outputs are not finite
        scale = gamma / np.sqrt(variance + float(norm.attrs.get("eps", 1e-3)))
        bias = beta + ((own[1] if len(own) > 1 else 0) - mean) * scale
        kernel = own[0] * scale.reshape(-1, *(1,) * (own[0].ndim - 1))
        return kernel.astype(np.float32), bias.astype(np.float32)
