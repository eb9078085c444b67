"""Whether a network scales its input itself, as Keras's exports do."""

from __future__ import annotations

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Node

_ARITHMETIC = ("mul", "div", "add", "sub", "plus", "minus", "rdiv", "rminus")
_SCALING = frozenset(
    {
        "BatchNorm",
        *(f"_{name}_scalar" for name in _ARITHMETIC),
        *(f"broadcast_{name}" for name in _ARITHMETIC),
    }
)
_PASSING = frozenset({"Pad", "Reshape", "_copy", "identity", "pad", "transpose"})


def scaling_node(network: NetworkDefinition) -> Node | None:
    """The operator by which the input is scaled, shifted or normalised before anything else."""
    graph = network.graph
    number = graph.number(network.input_name)
    while True:
        readers = [n for n in graph.nodes if any(source == number for source, _ in n.inputs)]
        if len(readers) != 1:
            return None
        node = readers[0]
        others = (graph.nodes[source] for source, _ in node.inputs if source != number)
        if any(n.op != VARIABLE for n in others) or node.op not in _SCALING | _PASSING:
            return None
        if node.op in _SCALING:
            return node
        number = graph.nodes.index(node)
