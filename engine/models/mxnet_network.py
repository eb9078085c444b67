"""A network bound to a device: fused backbone, exact heads."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from engine.errors import ConfigError
from engine.models.closed_form import pooled_dense_weight
from engine.models.definition import NetworkDefinition
from engine.models.graph import Cut, cut, to_json
from engine.models.layers import resolve_layer
from engine.models.precision import FP32, lower
from engine.models.program import Program, backbone, program_of
from engine.types import F4, I4, LayerInfo, Quantization


class MxnetNetwork:
    """Forward passes of a fixed batch shape, and gradients at the layers it was cut at.

    Parameters
    ----------
    definition
        The network to run.
    layers
        Names of the layers to explain; `auto` is allowed.
    batch_size
        Images per pass. Smaller batches are padded: new shapes would grow memory.
    precision
        Of the backbone: fp32, bf16 or int8. The heads are float32 always.
    gpu
        Compute on the first GPU that this process sees; it must be usable.
    quantization
        What int8 needs, as :func:`engine.models.precision.calibrate` found it.

    Raises
    ------
    ConfigError
        The network has no such layer.
    """

    def __init__(
        self,
        definition: NetworkDefinition,
        layers: tuple[str, ...],
        batch_size: int,
        precision: str = FP32,
        quantization: Quantization | None = None,
        gpu: bool = False,
    ) -> None:
        self.layers: tuple[LayerInfo, ...] = tuple(resolve_layer(definition, n) for n in layers)
        self._definition = definition
        self._input = np.zeros((batch_size, *definition.preprocessing.input_shape), np.float32)
        self._device = mx.gpu(0) if gpu else mx.cpu()
        self._data = mx.nd.array(self._input, self._device)
        cuts = [cut(definition.graph, info.name, definition.parameters) for info in self.layers]
        entries, program = backbone(definition, cuts, self._device)
        self._backbone = lower(program, precision, quantization).bind(
            {definition.input_name: self._data}
        )
        self._taps = dict(zip(entries, self._backbone.outputs, strict=True))
        self._heads = self._bind_heads(cuts)

    def forward(self, images: F4) -> _Pass:
        """Run the backbone; see :class:`engine.protocols.Network`."""
        count = len(images)
        if count == len(self._input):
            self._data[:] = images
        else:
            self._input[:count], self._input[count:] = images, 0
            self._data[:] = self._input
        self._backbone.forward(is_train=False)
        for head in self._heads.values():
            head.new_batch()
        return _Pass(self._heads, self.layers[-1].name, count)

    def _bind_heads(self, cuts: list[Cut]) -> dict[str, _Head]:
        heads: dict[str, _Head] = {}
        for info, c in zip(self.layers, cuts, strict=True):
            symbol = mx.sym.load_json(to_json(c.head))
            inputs = {n: self._taps[e] for n, e in zip(c.crossing, c.backbone, strict=True)}
            inputs[self._definition.input_name] = self._data
            program = program_of(symbol, self._definition, self._device)
            heads[info.name] = _Head(program, inputs, c.crossing[0], self._dense_weight(c, info))
        return heads

    def _dense_weight(self, c: Cut, info: LayerInfo) -> F4 | None:
        """(classes,C) weight of the dense layer, if the head is in closed form."""
        name = pooled_dense_weight(c, info.shape)
        if name is None:
            return None
        return self._definition.parameters[name].reshape(-1, info.shape[0])


class _Head:
    """From one layer to the logits, in float32. MXNet fuses no graph that has a gradient.

    Where it is global average pooling and one dense layer, `dense` is that layer's
    (classes,C) weight and the gradient is known without a backward pass.
    """

    def __init__(
        self, program: Program, inputs: dict[str, mx.nd.NDArray], tap: str, dense: F4 | None
    ) -> None:
        self._tap, self.dense = inputs[tap], dense
        self._gradient = None if dense is not None else mx.nd.zeros(self._tap.shape, self._tap.ctx)
        self._executor = program.bind(inputs, None if dense is not None else (tap, self._gradient))
        self.new_batch()

    def new_batch(self) -> None:
        self._logits: F4 | None = None
        self._activation: F4 | None = None

    def activation(self) -> F4:
        if self._activation is None:
            self._activation = self._tap.asnumpy()
        return self._activation

    def logits(self) -> F4:
        """(B,classes). In training mode, because max-pooling's backward needs its workspace."""
        if self._logits is None:
            self._forward()
            self._logits = self._executor.outputs[0].asnumpy()
        return self._logits

    def _forward(self) -> None:
        self._executor.forward(is_train=self._gradient is not None)
        self._differentiable = True

    def gradient(self, target: I4) -> F4:
        """(n,) classes -> (n,C,...) d logit[target] / d activation, one backward pass."""
        if self._gradient is None:
            raise ValueError("this head is in closed form")
        one_hot = np.zeros_like(self.logits())
        one_hot[np.arange(len(target)), target] = 1
        if not self._differentiable:
            self._forward()
        self._executor.backward([mx.nd.array(one_hot, self._tap.ctx)])
        self._differentiable = False  # it reuses the memory of what the forward pass kept
        gradient: F4 = self._gradient.asnumpy()[: len(target)]
        return gradient


class _Pass:
    """One forward pass; see :class:`engine.protocols.ForwardPass`."""

    def __init__(self, heads: dict[str, _Head], last: str, count: int) -> None:
        self._heads, self._last, self._count = heads, last, count

    @property
    def logits(self) -> F4:
        return self._heads[self._last].logits()[: self._count]

    def layer(self, name: str) -> _LayerView:
        return _LayerView(self._heads[name], name, self._count)


class _LayerView:
    """One layer of one pass; see :class:`engine.protocols.LayerView`."""

    def __init__(self, head: _Head, name: str, count: int) -> None:
        self._head, self._name, self._count = head, name, count

    @property
    def activation(self) -> F4:
        return self._head.activation()[: self._count]

    def mean_gradient(self, targets: I4) -> F4:
        if self._head.dense is not None:
            area = np.float32(np.prod(self.activation.shape[2:]))
            gradient: F4 = self.class_weights(targets) / area
            return gradient
        columns = [self._head.gradient(target).mean(axis=(2, 3)) for target in targets.T]
        return np.ascontiguousarray(np.stack(columns, axis=1))

    def class_weights(self, targets: I4) -> F4:
        if self._head.dense is None:
            raise ConfigError(f"{self._name}: no global average pooling and dense layer follow it")
        weights: F4 = self._head.dense[targets]
        return weights
