"""Units of a layer: their activations, and the gradient of each with regard to the input."""

from __future__ import annotations

import math
from dataclasses import replace

import mxnet as mx
import numpy as np

from shardcam.engine.models.bound_program import program_of
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Entry, Graph, prune
from shardcam.engine.models.graph_forms import differentiable
from shardcam.engine.models.layer_names import with_maps
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.types import F4, I4


class UnitGradients:
    """Activations and gradients of the units of one layer.

    The network runs from its input up to the layer, in float32, unfused, BatchNorm frozen.

    A unit is a channel of the layer, or a number of a dense layer. Behind a closed
    ReLU the gradient is zero, and so it is behind a clip at its limit: if the layer is one of
    these, its input is differentiated, and its own value is reported.

    Parameters
    ----------
    definition
        The network to run.
    layer
        Name of a layer.
    batch_size
        Largest number of images in a pass.
    """

    def __init__(self, definition: NetworkDefinition, layer: str, batch_size: int) -> None:
        graph = with_maps(definition, [layer]).graph
        heads = ((graph.number(layer), 0), _differentiated(graph, layer))
        symbol = symbol_of(differentiable(prune(replace(graph, heads=heads))))
        self._padded = np.zeros((batch_size, *definition.preprocessing.input_shape), np.float32)
        self._data = mx.nd.array(self._padded)
        self._gradient = mx.nd.zeros_like(self._data)
        name = definition.input_name
        self._executor = program_of(symbol, definition, mx.cpu()).bind(
            {name: self._data}, {name: self._gradient}
        )
        self._direction: mx.nd.NDArray | None = None  # of the gradient, kept between steps
        self._units: list[int] = []

    @in_one_line
    def of(self, images: F4, units: I4) -> tuple[F4, F4]:
        """(N,C,H,W), (N,) -> (N,) activations of one unit per image, (N,C,H,W) their gradients.

        The activation of a channel is the mean over its positions.
        """
        count = len(units)
        self._padded[:count] = images
        self._data[:] = self._padded
        self._executor.forward(is_train=True)
        layer, differentiated = self._executor.outputs
        values = [layer[row][unit].asnumpy().mean() for row, unit in enumerate(units.tolist())]
        if self._direction is None or units.tolist() != self._units:
            self._units, self._direction = units.tolist(), _direction(differentiated.shape, units)
        self._executor.backward([mx.nd.zeros_like(layer), self._direction])
        gradient: F4 = self._gradient.asnumpy()[:count]
        return np.array(values, np.float32), gradient


def _direction(shape: tuple[int, ...], units: I4) -> mx.nd.NDArray:
    direction = np.zeros(shape, np.float32)
    direction[range(len(units)), units] = 1 / math.prod(shape[2:])
    return mx.nd.array(direction)


def _differentiated(graph: Graph, layer: str) -> Entry:
    """The input of a layer that is a rectifier, else the layer itself."""
    number = graph.number(layer)
    node = graph.nodes[number]
    relu = node.op == "Activation" and node.attrs.get("act_type") == "relu"
    return node.inputs[0] if relu or node.op in ("clip", "relu") else (number, 0)
