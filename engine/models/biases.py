"""What the operators of a network add to their channels."""

from __future__ import annotations

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Node
from shardcam.engine.types import F4


def added_bias(node: Node, definition: NetworkDefinition) -> F4 | None:
    """(C,) what a convolution or a normalisation adds; None of others."""
    names = [definition.graph.nodes[number].name for number, _ in node.inputs]
    value = definition.parameters
    if node.op == "Convolution" and len(names) == 3:
        return value[names[2]]
    if node.op != "BatchNorm":
        return None
    gamma, beta, mean, variance = (value[name] for name in names[1:])
    if node.attrs.get("fix_gamma", "True") in ("True", "1"):
        gamma = np.ones_like(gamma)
    deviation = np.sqrt(variance + float(node.attrs.get("eps", 1e-3)))
    added: F4 = (beta - gamma * mean / deviation).astype(np.float32)
    return added
