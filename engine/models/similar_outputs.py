"""Networks of embeddings, which are explained by how like one of them is to a given one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Graph, Node
from shardcam.engine.models.links import free_name
from shardcam.engine.types import F4, NO_LINK

EPSILON = "1e-10"  # beside the squared length of an embedding


def similar_to(definition: NetworkDefinition, vectors: F4) -> NetworkDefinition:
    """The network whose outputs are the cosines of its embedding and each of (K,D) vectors.

    `definition` ends in (N,D) embeddings; the vectors have lengths.
    """
    nodes = [*definition.graph.nodes]
    weight = free_name("similar_vectors", nodes)
    unit = Node("L2Normalization", free_name("unit", nodes), {"eps": EPSILON, "mode": "instance"},
                definition.graph.heads)  # fmt: skip
    nodes += [unit, Node("null", weight)]
    last = len(nodes)
    attrs = {"num_hidden": str(len(vectors)), "no_bias": "True"}
    inputs = ((last - 2, 0), (last - 1, 0))
    nodes.append(Node("FullyConnected", free_name("similarity", nodes), attrs, inputs))
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(
        definition,
        graph=Graph(tuple(nodes), ((last, 0),), definition.graph.version),
        parameters={**definition.parameters, weight: np.ascontiguousarray(directions, np.float32)},
        link=NO_LINK,
    )
