"""Gradients at every bias of a network, for methods that explain the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import mxnet as mx
import numpy as np

from shardcam.engine.models.biases import added_bias
from shardcam.engine.models.bound_program import program_of
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import HEAD_BYTES
from shardcam.engine.models.graph import VARIABLE, Graph, Rewriting
from shardcam.engine.models.graph_forms import differentiable
from shardcam.engine.models.layer_names import map_layouts
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.types import F4


class BiasProgram:
    """The whole network in float32, a zero added after each convolution and batch normalisation.

    The gradient at the zero is the gradient at the bias, position by position. The bias of a
    normalisation is what it adds: ``beta - gamma * mean / sqrt(variance + epsilon)``
    (Srinivas & Fleuret 2019, appendix). Dense layers have no positions and are left out.
    """

    def __init__(self, definition: NetworkDefinition, device: mx.Context) -> None:
        maps = {name for name, layout in map_layouts(definition).items() if layout.is_map}
        biases = {
            n.name: added_bias(n, definition) for n in definition.graph.nodes if n.name in maps
        }
        self.biases = {name: bias for name, bias in biases.items() if bias is not None}
        self.input_name = definition.input_name
        graph = differentiable(_with_zeros(definition.graph, {*self.biases}))
        self.program = program_of(symbol_of(graph), definition, device)


class BiasGradients:
    """Passes of a `BiasProgram` over images of one shape.

    Parameters
    ----------
    source
        The network.
    shape
        (N,channels,H,W) of a batch.
    """

    @in_one_line
    def __init__(self, source: BiasProgram, shape: tuple[int, ...]) -> None:
        self._biases, self._input_name = source.biases, source.input_name
        program = source.program
        known = {name: value.shape for name, value in program.arguments.items()}
        batch_size, *image = shape

        def shapes(rows: int) -> dict[str, tuple[int, ...]]:
            """Of the inputs and the zeros."""
            known[self._input_name] = rows, *image
            found = program.symbol.infer_shape(**known)[0]
            of = dict(zip(program.symbol.list_arguments(), found, strict=True))
            return {name: of[name] for name in (self._input_name, *map(_zero, self._biases))}

        per_row = 8 * sum(map(math.prod, shapes(1).values()))
        self._rows = max(1, min(batch_size, HEAD_BYTES // per_row))
        device = program.device
        inputs = {name: mx.nd.zeros(one, device) for name, one in shapes(self._rows).items()}
        self._data = inputs[self._input_name]
        self._gradients = {name: mx.nd.zeros_like(values) for name, values in inputs.items()}
        self._executor = program.bind(inputs, self._gradients)

    def terms(self, images: F4, direction: F4) -> Iterator[tuple[slice, F4]]:
        """(N,...) images, (N,classes) -> some images at a time, (n,C,h,w) terms of the score.

        Input times gradient, then each bias times its gradient.
        """
        for start in range(0, len(images), self._rows):
            part = slice(start, min(start + self._rows, len(images)))
            self._backward(images[part], direction[part])
            yield part, images[part] * self._gradient(self._input_name, part)
            for name, bias in self._biases.items():
                yield part, bias[:, None, None] * self._gradient(_zero(name), part)

    @in_one_line
    def _backward(self, images: F4, direction: F4) -> None:
        self._data[: len(images)] = images
        self._executor.forward(is_train=True)
        padded = np.zeros(self._executor.outputs[0].shape, np.float32)
        padded[: len(images)] = direction
        self._executor.backward([mx.nd.array(padded, self._data.ctx)])

    @in_one_line
    def _gradient(self, name: str, part: slice) -> F4:
        gradient: F4 = self._gradients[name].asnumpy()[: part.stop - part.start]
        return gradient


def _zero(name: str) -> str:
    return f"{name}_zero"


def _with_zeros(graph: Graph, names: set[str]) -> Graph:
    """Add a variable to the first output of each named node."""
    new = Rewriting(graph)
    for _, node in new.nodes():
        x = new.write(node)
        if node.name in names and node.op != VARIABLE:
            zero = new.add(VARIABLE, _zero(node.name), {})
            new.add("elemwise_add", f"{node.name}_plus", {}, x, zero)
    return new.graph()
