"""Gradients at every bias of a network, for methods that explain the whole of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import mxnet as mx
import numpy as np

from engine.models.definition import NetworkDefinition
from engine.models.graph import VARIABLE, Entry, Graph, Node, to_json
from engine.models.head import HEAD_BYTES
from engine.models.layers import layer_shapes
from engine.models.program import program_of
from engine.types import F4


class BiasGradients:
    """The whole network in float32, a zero added after each convolution and normalisation.

    The gradient at the zero is the gradient at the bias, position by position. The bias of a
    normalisation is what it adds: ``beta - gamma * mean / sqrt(variance + epsilon)``
    (Srinivas & Fleuret 2019, appendix). Dense layers have no positions and are left out.
    """

    def __init__(self, definition: NetworkDefinition, batch_size: int, device: mx.Context) -> None:
        shapes = layer_shapes(definition)
        nodes = definition.graph.nodes
        biases = {n.name: _bias(n, definition) for n in nodes if len(shapes.get(n.name, ())) == 3}
        self._biases = {name: bias for name, bias in biases.items() if bias is not None}
        per_row = 8 * sum(math.prod(shapes[name]) for name in self._biases) + 1
        self._rows = max(1, min(batch_size, HEAD_BYTES // per_row))
        program = program_of(
            mx.sym.load_json(to_json(_with_zeros(definition.graph, set(self._biases)))),
            definition,
            device,
        )
        self._data = mx.nd.zeros((self._rows, *definition.preprocessing.input_shape), device)
        zeros = {
            _zero(name): mx.nd.zeros((self._rows, *shapes[name]), device) for name in self._biases
        }
        self._gradients = {name: mx.nd.zeros_like(values) for name, values in zeros.items()}
        self._executor = program.bind({definition.input_name: self._data, **zeros}, self._gradients)

    def terms(self, images: F4, direction: F4) -> Iterator[F4]:
        """(N,...) images, (N,classes) -> for each bias (N,C,h,w) bias times gradient."""
        parts = [
            self._gradients_of(images[start : start + self._rows], direction[start:])
            for start in range(0, len(images), self._rows)
        ]
        for name, bias in self._biases.items():
            gradient = np.concatenate([part[name] for part in parts])
            yield gradient * bias[:, None, None]

    def _gradients_of(self, images: F4, direction: F4) -> dict[str, F4]:
        count = len(images)
        self._data[:count] = images
        self._executor.forward(is_train=True)
        padded = np.zeros(self._executor.outputs[0].shape, np.float32)
        padded[:count] = direction[:count]
        self._executor.backward([mx.nd.array(padded, self._data.ctx)])
        return {name: self._gradients[_zero(name)].asnumpy()[:count] for name in self._biases}


def _bias(node: Node, definition: NetworkDefinition) -> F4 | None:
    """(C,) what a node adds to its channels."""
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


def _zero(name: str) -> str:
    return f"{name}_zero"


def _with_zeros(graph: Graph, names: set[str]) -> Graph:
    """Add a variable to the first output of each named node."""
    nodes: list[Node] = []
    moved: dict[Entry, Entry] = {}
    for number, node in enumerate(graph.nodes):
        inputs = tuple(moved.get(entry, entry) for entry in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        place = len(nodes) - 1
        outputs = [(number, out) for out in range(3)]  # BatchNorm has three
        moved |= {entry: (place, entry[1]) for entry in outputs}
        if node.name in names and node.op != VARIABLE:
            nodes.append(Node(VARIABLE, _zero(node.name)))
            sources = ((place, 0), (place + 1, 0))
            nodes.append(Node("elemwise_add", f"{node.name}_plus", {}, sources))
            moved[number, 0] = (place + 2, 0)
    return Graph(tuple(nodes), tuple(moved[entry] for entry in graph.heads))
