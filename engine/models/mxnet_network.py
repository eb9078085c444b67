"""A network bound to a device: fused backbone, exact heads."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import mxnet as mx

from shardcam.engine.models.bound_program import backbone, program_of
from shardcam.engine.models.closed_form import is_piecewise_linear, pooled_dense_weight
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import HEAD_BYTES, free_memory
from shardcam.engine.models.fullgrad_terms import BiasGradients
from shardcam.engine.models.graph import Cut, cut, differentiable, entry_of, to_json
from shardcam.engine.models.head import Head, HeadProgram
from shardcam.engine.models.input_buffer import InputBuffer
from shardcam.engine.models.layer_names import (
    class_count,
    layer_shapes,
    resolve_layer,
    with_maps,
)
from shardcam.engine.models.layer_of_pass import LayerOfPass
from shardcam.engine.models.memory import CPU_PASS, LARGEST, require_memory
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.normalise import in_floats
from shardcam.engine.models.precision import FP32, lower
from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, I4, U1, LayerInfo, Quantization

BATCH = 32


def batch_that_fits(
    definition: NetworkDefinition, layers: tuple[str, ...], most: int, usual: int = BATCH
) -> int:
    """Images per batch: the `usual`, but no more than `most`, nor than a head has room for.

    The head of a batch reads its weights once, which are most of VGG's. Its tensors keep within
    `engine.models.free_memory.HEAD_BYTES`, unless those of one pass do not. MXNet counts the
    numbers of a tensor by 31 bits.
    """
    definition = with_maps(definition, layers)
    shapes = layer_shapes(definition)
    heads = (cut(definition.graph, name, definition.parameters).head for name in layers)
    # values and their gradients, in float32
    rows = [8 * sum(math.prod(shapes.get(node.name, ())) for node in h.nodes) for h in heads]
    fits = min(usual, HEAD_BYTES // max(rows))
    index = LARGEST // max(map(math.prod, shapes.values()))
    return min(max(min(fits, most) // CPU_PASS, 1) * CPU_PASS, max(index, 1))


class MxnetNetwork:
    """Forward passes of a fixed batch shape, and gradients at the layers it was cut at.

    Parameters
    ----------
    definition
        The network to run.
    layers
        Names of the layers to explain; `auto` is allowed.
    batch_size
        Images per batch. Smaller ones are padded: new shapes would grow memory.
    precision
        Of the backbone: fp32, bf16 or int8. The heads are float32 always.
    gpu
        Compute on the first GPU that this process sees; it must be usable.
    quantization
        What int8 needs, as `engine.models.precision.calibrate` found it.
    extra_layers
        Names of layers that are not explained, but whose activations are wanted.
    attention
        Names of the layers that `engine.models.attention_layers` finds, if methods
        read them.
    threads
        Of the CPU. Four images for each go through the backbone at once, and the batch
        through the heads; on a GPU all goes together.
    buffers
        Passes whose results are held at a time, each in memory of its own.

    Raises
    ------
    ConfigError
        The network has no such layer.
    """

    @in_one_line
    def __init__(
        self,
        definition: NetworkDefinition,
        layers: tuple[str, ...],
        batch_size: int,
        precision: str = FP32,
        quantization: Quantization | None = None,
        gpu: bool = False,
        extra_layers: tuple[str, ...] = (),
        threads: int = 1,
        buffers: int = 1,
        attention: tuple[str, ...] = (),
    ) -> None:
        self.buffers, self.attention = buffers, attention
        self.on_pass: Callable[[], None] = lambda: None
        self.layers: tuple[LayerInfo, ...] = tuple(resolve_layer(definition, n) for n in layers)
        names = [info.name for info in self.layers]
        extra_layers = (*extra_layers, *attention)
        definition = with_maps(definition, [*names, *extra_layers])
        self._extra = {name: entry_of(definition.graph, name) for name in extra_layers}
        self.batch_size = batch_size
        self._pass = batch_size if gpu else min(batch_size, CPU_PASS * threads)
        free = None if gpu else free_memory()
        require_memory(definition, names, batch_size, self._pass, free)
        self._device = mx.gpu(0) if gpu else mx.cpu()
        self._device_normalises = gpu
        self._definition = definition
        cuts = [cut(definition.graph, info.name, definition.parameters) for info in self.layers]
        self._entries, program = backbone(
            definition, cuts, tuple(self._extra.values()), self._device
        )
        self._program = lower(program, precision, quantization)
        self._heads = {
            info.name: self._head(definition, c, info)
            for info, c in zip(self.layers, cuts, strict=True)
        }
        shortest = min(
            zip(self.layers, cuts, strict=True), key=lambda pair: len(pair[1].head.nodes)
        )
        self.deepest = shortest[0].name  # the logits come from its head, in whatever order
        self._turns = itertools.cycle([_Bound(self) for _ in range(buffers)])

    @in_one_line
    def forward(self, images: F4 | U1 | Inputs) -> _Pass:
        return next(self._turns).forward(images, self.deepest)

    @functools.cached_property
    def spare(self) -> _Bound:
        """A second set of executors on the same weights, made when a method asks for it."""
        return _Bound(self)

    @functools.cached_property
    def biases(self) -> BiasGradients:
        """The whole network in float32 once more, made when a method asks for it."""
        return BiasGradients(self._definition, self.batch_size, self._device)

    @functools.cached_property
    def classes(self) -> int:
        """Number of logits."""
        return class_count(self._definition)

    def _head(self, definition: NetworkDefinition, c: Cut, info: LayerInfo) -> HeadProgram:
        program = program_of(
            mx.sym.load_json(to_json(differentiable(c.head))), definition, self._device
        )
        weight = pooled_dense_weight(c, info.shape)
        dense = None
        if weight is not None:
            dense = definition.parameters[weight].reshape(-1, info.shape[0])
        linear = is_piecewise_linear(c)
        return HeadProgram(program, c.crossing, c.backbone, dense, linear)


class _Bound:
    """Executors and the buffers between them, for one pass at a time."""

    def __init__(self, network: MxnetNetwork) -> None:
        self._network = network
        definition = network._definition
        self._input = InputBuffer(
            network._pass, definition.preprocessing, network._device, network._device_normalises
        )
        self._backbone = network._program.bind({definition.input_name: self._input.data})
        self.taps = [self._tap(output) for output in self._backbone.outputs]
        taps = dict(zip(network._entries, self.taps, strict=True))
        self.heads = {
            name: Head(program, [taps[e] for e in program.entries])
            for name, program in network._heads.items()
        }
        self.extra = {name: taps[entry] for name, entry in network._extra.items()}
        self.current: _Pass | None = None  # the one whose results these are
        self._images: F4 | U1 | Inputs
        self._begun = 0  # of these

    def _tap(self, output: mx.nd.NDArray) -> mx.nd.NDArray:
        """Where a whole batch of an output is collected: the output itself, if it is one."""
        network = self._network
        if network._pass == network.batch_size:
            return output
        return mx.nd.zeros((network.batch_size, *output.shape[1:]), output.ctx, output.dtype)

    def forward(self, images: F4 | U1 | Inputs, wanted: str) -> _Pass:
        """Begin a pass; the logits of the head `wanted` are computed at once."""
        if len(images) > self._network.batch_size:
            raise ValueError(f"{len(images)} images, but a batch has {self._network.batch_size}")
        self._network.on_pass()
        self._images, self._begun = images, 0
        for head in self.heads.values():
            head.new_batch(len(images))
        self._begin_part()
        if self._begun == len(images):
            self.heads[wanted].begin()
        self.current = _Pass(self._network, self, images)
        return self.current

    def finish(self) -> None:
        """Run the rest of the batch, part by part."""
        while self._begun < len(self._images):
            self._begin_part()

    def _begin_part(self) -> None:
        network, start = self._network, self._begun
        part = self._images[start : start + network._pass]
        self._input.put(part)
        self._backbone.forward(is_train=False)
        self._begun = stop = start + len(part)
        if network._pass < network.batch_size:
            for tap, output in zip(self.taps, self._backbone.outputs, strict=True):
                tap[start:stop] = output[: len(part)]


class _Pass:
    """One forward pass; see `engine.protocols.ForwardPass`."""

    def __init__(self, network: MxnetNetwork, bound: _Bound, images: F4 | U1 | Inputs) -> None:
        self.network, self._bound, self._given = network, bound, images
        self.count = len(images)

    @functools.cached_property
    def images(self) -> F4:
        return in_floats(self._given, self.network._definition.preprocessing)

    @property
    def images_there(self) -> F4:
        return self.images

    def wait(self) -> None:
        for tap in self._finished().taps:
            tap.wait_to_read()

    @property
    def logits(self) -> F4:
        return self.head(self.network.deepest).logits

    def layer(self, name: str) -> _LayerView:
        self.network.on_pass()
        return _LayerView(self, name)

    @in_one_line
    def activation(self, name: str) -> F4:
        if name in self._bound.heads:
            return self.layer(name).activation
        values: F4 = self._finished().extra[name].asnumpy()[: self.count]
        return values

    def head(self, name: str) -> Head:
        return self._finished().heads[name]

    @in_one_line
    def _finished(self) -> _Bound:
        if self._bound.current is not self:
            raise RuntimeError("the results of this pass are gone: another one has begun")
        self._bound.finish()
        return self._bound


class _LayerView(LayerOfPass[F4, F4, Head]):
    """On MXNet: arrays."""

    def class_weights(self, targets: I4) -> F4:
        weights: F4 = self._dense()[targets]
        return weights

    def of(self, images: F4) -> _LayerView:
        run: _Pass = self._pass.network.spare.forward(images, self._name)
        return run.layer(self._name)
