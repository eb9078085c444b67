"""A network bound to a device: fused backbone, exact heads."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import ref

import mxnet as mx
from mxnet.base import NDArrayHandle, py_str

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import HEAD_BYTES, free_memory
from shardcam.engine.models.fullgrad_terms import BiasGradients
from shardcam.engine.models.graph import cut
from shardcam.engine.models.head import Head
from shardcam.engine.models.input_buffer import InputBuffer
from shardcam.engine.models.layer_names import (
    layer_shapes,
    with_maps,
)
from shardcam.engine.models.layer_of_pass import LayerOfPass
from shardcam.engine.models.memory import CPU_PASS, LARGEST, require_memory
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from shardcam.engine.models.normalise import in_floats
from shardcam.engine.models.precision import FP32
from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, I4, U1, LayerInfo, Preprocessing, Quantization

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


class BoundNetwork:
    """Forward passes of a fixed batch shape, and gradients at the layers it was cut at.

    Parameters
    ----------
    programs
        What it computes.
    preprocessing
        Of images of the size that it is bound for.
    batch_size
        Images per batch. Smaller ones are padded: new shapes would grow memory.
    rows
        Images that go through the backbone at once; the batch goes through the heads.
    buffers
        Passes whose results are held at a time, each in memory of its own.
    """

    @in_one_line
    def __init__(
        self,
        programs: MxnetPrograms,
        preprocessing: Preprocessing,
        batch_size: int,
        rows: int,
        buffers: int = 1,
    ) -> None:
        self.programs, self.preprocessing = programs, preprocessing
        self.batch_size, self.rows, self.buffers = batch_size, rows, buffers
        self.attention = programs.attention
        self.on_pass: Callable[[], None] = lambda: None
        self._bound = [_Bound(self) for _ in range(buffers)]
        self._turns = itertools.cycle(self._bound)
        shapes = {name: head.activation_shape for name, head in self._bound[0].heads.items()}
        self.layers: tuple[LayerInfo, ...] = tuple(
            replace(info, shape=shapes[info.name]) for info in programs.layers
        )

    @in_one_line
    def forward(self, images: F4 | U1 | Inputs) -> _Pass:
        return next(self._turns).forward(images, self.deepest)

    def watch(self, see: Callable[[str, mx.nd.NDArray], None]) -> None:
        """Show each tensor of the backbone with its name, once it is written and when it is read.

        Passes to come show them, to `see` alone.
        """
        for bound in self._bound:
            bound.watch(see)

    @property
    def deepest(self) -> str:
        """The layer whose head gives the logits."""
        return self.programs.deepest

    @functools.cached_property
    def spare(self) -> _Bound:
        """A second set of executors on the same weights, made when a method asks for it."""
        return _Bound(self)

    @functools.cached_property
    def biases(self) -> BiasGradients:
        """The whole network in float32 once more, made when a method asks for it."""
        shape = self.batch_size, *self.preprocessing.input_shape
        return BiasGradients(self.programs.biases, shape)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.programs.classes


class MxnetNetwork(BoundNetwork):
    """A network for images of its own size.

    Parameters
    ----------
    definition, layers, precision, quantization, gpu, extra_layers, attention
        See `engine.models.mxnet_programs.MxnetPrograms`.
    batch_size, buffers
        See `BoundNetwork`.
    threads
        Of the CPU. Four images for each go through the backbone at once, and the batch
        through the heads; on a GPU all goes together.

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
        extra_layers: tuple[str, ...] = (),
        threads: int = 1,
        buffers: int = 1,
        attention: tuple[str, ...] = (),
    ) -> None:
        programs = MxnetPrograms(
            definition, layers, precision, quantization, gpu, extra_layers, attention
        )
        rows = batch_size if gpu else min(batch_size, CPU_PASS * threads)
        names, free = [info.name for info in programs.layers], None if gpu else free_memory()
        require_memory(programs.definition, names, batch_size, rows, free)
        super().__init__(programs, definition.preprocessing, batch_size, rows, buffers)


class _Bound:
    """Executors and the buffers between them, for one pass at a time.

    It refers to its network weakly, so that both go as soon as nobody has the network or a pass:
    until a circle of them is collected, memory for many more would be taken.
    """

    def __init__(self, network: BoundNetwork) -> None:
        self._its_network, programs = ref(network), network.programs
        device = programs.device
        self._input = InputBuffer(
            network.rows, network.preprocessing, device, device.device_type == "gpu"
        )
        self._backbone = programs.backbone.bind({programs.definition.input_name: self._input.data})
        self.taps = [self._tap(output) for output in self._backbone.outputs]
        taps = dict(zip(programs.entries, self.taps, strict=True))
        self.heads = {
            name: Head(program, [taps[e] for e in program.entries])
            for name, program in programs.heads.items()
        }
        self.extra = {name: taps[entry] for name, entry in programs.extra.items()}
        self.passes = 0  # the last one is that whose results these are
        self._images: F4 | U1 | Inputs
        self._begun = 0  # of these

    @property
    def _network(self) -> BoundNetwork:
        network = self._its_network()
        assert network is not None
        return network

    def _tap(self, output: mx.nd.NDArray) -> mx.nd.NDArray:
        """Where a whole batch of an output is collected: the output itself, if it is one."""
        network = self._network
        if network.rows == network.batch_size:
            return output
        return mx.nd.zeros((network.batch_size, *output.shape[1:]), output.ctx, output.dtype)

    def watch(self, see: Callable[[str, mx.nd.NDArray], None]) -> None:
        """See `BoundNetwork.watch`."""

        def show(name: bytes, handle: Any) -> None:  # the array, once it goes, frees the handle
            see(py_str(name), mx.nd.NDArray(ctypes.cast(handle, NDArrayHandle), writable=False))

        self._backbone.set_monitor_callback(show, monitor_all=True)

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
        self.passes += 1
        return _Pass(self._network, self, images)

    def finish(self) -> None:
        """Run the rest of the batch, part by part."""
        while self._begun < len(self._images):
            self._begin_part()

    def _begin_part(self) -> None:
        network, start = self._network, self._begun
        part = self._images[start : start + network.rows]
        self._input.put(part)
        self._backbone.forward(is_train=False)
        self._begun = stop = start + len(part)
        if network.rows < network.batch_size:
            for tap, output in zip(self.taps, self._backbone.outputs, strict=True):
                tap[start:stop] = output[: len(part)]


class _Pass:
    """One forward pass; see `engine.protocols.ForwardPass`."""

    def __init__(self, network: BoundNetwork, bound: _Bound, images: F4 | U1 | Inputs) -> None:
        self.network, self._bound, self._given = network, bound, images
        self.count, self._number = len(images), bound.passes

    @functools.cached_property
    def images(self) -> F4:
        return in_floats(self._given, self.network.preprocessing)

    @property
    def images_there(self) -> F4:
        return self.images

    @in_one_line
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
        if self._bound.passes != self._number:
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
