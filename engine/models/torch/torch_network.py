"""A network in PyTorch: a backbone at the precision its device is fast at, exact heads."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from shardcam.engine.models.closed_form import is_piecewise_linear, pooled_dense_weight
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Cut, Entry, cut, entry_of
from shardcam.engine.models.layer_of_pass import LayerOfPass
from shardcam.engine.models.normalise import in_floats
from shardcam.engine.models.torch.fold_batchnorm import folded
from shardcam.engine.models.torch.fused_steps import with_fused_relus
from shardcam.engine.models.torch.pixel_buffer import PixelBuffer
from shardcam.engine.models.torch.recorded_backbone import RecordedBackbone
from shardcam.engine.models.torch.torch_biases import TorchBiases
from shardcam.engine.models.torch.torch_device import (
    HostCopy,
    forbid_tf32,
    in_one_line,
    on_device,
    tf32,
)
from shardcam.engine.models.torch.torch_head import TorchHead, TorchHeadProgram
from shardcam.engine.models.torch.torch_operators import require_operators
from shardcam.engine.models.torch.torch_program import Program, Weights, shapes_of
from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, I4, U1, LayerInfo

FP32, TF32 = "fp32", "tf32"
DTYPES = {
    FP32: torch.float32,
    TF32: torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class TorchNetwork:
    """Forward passes of a fixed batch shape, and gradients at the layers it was cut at.

    Layers give tensors on the network's device: float32, contiguous. Logits and images are arrays.

    Parameters
    ----------
    definition
        The network to run.
    layers
        Names of the layers to explain.
    batch_size
        Images per batch. Smaller ones are filled up, so that shapes stay as they are.
    precision
        Of the backbone: fp32, tf32, bf16 or fp16. The heads are float32 always.
    gpu
        Compute on the first GPU that this process sees; it must be usable.
    extra_layers
        Names of layers that are not explained, but whose activations are wanted.
    attention
        Names of the layers that `engine.models.attention_layers` finds, if methods
        read them.
    buffers
        Passes whose results are held at a time. On a GPU each has a stream of its own, so that
        one is computed while the results of another are used.

    Raises
    ------
    ConfigError
        The table of operators lacks one of the network's.
    """

    @in_one_line
    def __init__(
        self,
        definition: NetworkDefinition,
        layers: tuple[str, ...],
        batch_size: int,
        precision: str = FP32,
        gpu: bool = False,
        extra_layers: tuple[str, ...] = (),
        buffers: int = 1,
        attention: tuple[str, ...] = (),
    ) -> None:
        require_operators(definition.graph, definition.name)
        forbid_tf32()
        graph, parameters = definition.graph, definition.parameters
        self.buffers, self.attention = buffers, attention
        self.on_pass: Callable[[], None] = lambda: None
        self.definition, self.batch_size = definition, batch_size
        self.device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        self.dtype, self.tf32 = DTYPES[precision], precision == TF32
        self._tensor_cores = gpu and precision != FP32
        # Of the backbone: without tensor cores cuDNN is 17 % faster with the channels first.
        first = gpu and not self._tensor_cores
        self.layout = torch.contiguous_format if first else torch.channels_last
        image = {definition.input_name: (1, *definition.preprocessing.input_shape)}
        self._shapes = shapes_of(graph, graph.heads, parameters, image)
        self.classes = self._shapes[graph.heads[0][0]][1]
        self._single = Weights(parameters, self.device)
        cuts = [cut(graph, name, parameters) for name in layers]
        self.heads = {c.layer: self._head(c) for c in cuts}
        self.layers = tuple(
            LayerInfo(c.layer, self._shape(c), self.heads[c.layer].dense is not None) for c in cuts
        )
        self.extra = {name: entry_of(graph, name) for name in (*extra_layers, *attention)}
        crossing = [entry for c in cuts for entry in c.backbone]
        self.entries: list[Entry] = list(dict.fromkeys([*crossing, *self.extra.values()]))
        self.backbone = self._backbone()
        shortest = min(cuts, key=lambda c: len(c.head.nodes))
        self.deepest = shortest.layer  # the logits come from its head, in whatever order
        self._turns = itertools.cycle([_Bound(self) for _ in range(buffers)])

    @in_one_line
    def forward(self, images: F4 | U1 | Inputs | Tensor) -> _Pass:
        """See `engine.protocols.Network`; bytes may be on the device."""
        return next(self._turns).forward(images, self.deepest)

    @functools.cached_property
    def spare(self) -> _Bound:
        """Room for one more pass, made when a method asks for it."""
        return _Bound(self)

    @functools.cached_property
    def biases(self) -> TorchBiases:
        """The whole network in float32 once more, made when a method asks for it."""
        return TorchBiases(self.definition, self._shapes, self.batch_size, self._single)

    def _backbone(self) -> Program:
        definition = self.definition
        graph, parameters = folded(definition.graph, definition.parameters, self.entries)
        exact = [n for n in graph.nodes if n.op in ("BatchNorm", "take")]  # statistics, indices
        single = {graph.nodes[source].name for n in exact for source, _ in n.inputs[1:]}
        weights = Weights(parameters, self.device, self.dtype, single, self.layout)
        if self._tensor_cores:
            graph = with_fused_relus(graph, self.entries)
        return Program(graph, self.entries, weights, self.dtype)

    def _shape(self, c: Cut) -> tuple[int, ...]:
        return self._shapes[c.backbone[0][0]][1:]

    def _head(self, c: Cut) -> TorchHeadProgram:
        parameters = self.definition.parameters
        crossing = dict(zip(c.crossing, c.backbone, strict=True))
        inputs = {name: self._shapes[number] for name, (number, _) in crossing.items()}
        made = shapes_of(c.head, c.head.heads, parameters, inputs)
        weight = pooled_dense_weight(c, self._shape(c))
        return TorchHeadProgram(
            program=Program(c.head, c.head.heads, self._single),
            crossing=c.crossing,
            entries=c.backbone,
            dense=self._single[weight].flatten(1) if weight is not None else None,
            piecewise_linear=is_piecewise_linear(c),
            bytes_per_row=4 * sum(map(math.prod, made.values())),
        )


class _Bound:
    """Room for the results of one pass at a time, and on a GPU a stream that makes them."""

    def __init__(self, network: TorchNetwork) -> None:
        self.network = network
        definition = network.definition
        self._input = PixelBuffer(network.batch_size, definition.preprocessing, network.device)
        self._input_entry = definition.graph.number(definition.input_name), 0
        gpu = network.device.type == "cuda"
        self._stream = torch.cuda.Stream(network.device) if gpu else None
        self._backbone = RecordedBackbone(self._taps, self._stream)
        self._done: torch.cuda.Event | None = None
        self.current: _Pass | None = None  # the one whose results these are

    def forward(self, images: F4 | U1 | Inputs | Tensor, wanted: str) -> _Pass:
        """Begin a pass; the logits of the head `wanted` are computed at once."""
        network = self.network
        if len(images) > network.batch_size:
            raise ValueError(f"{len(images)} images, but a batch has {network.batch_size}")
        network.on_pass()
        self.current = None  # its memory goes first
        with torch.no_grad(), self._own_stream():
            if self._stream is not None and isinstance(images, Tensor) and images.is_cuda:
                images.record_stream(self._stream)  # it is read there, whoever lets go of it
            self._input.put(images)
            taps = dict(zip(network.entries, self._backbone(), strict=True))
            self.current = _Pass(self, images, self._input.data, taps)
            self.current.heads[wanted].begin()
            if self._stream is not None:
                self._done = torch.cuda.Event()
                self._done.record()
        return self.current

    def _taps(self) -> list[Tensor]:
        """What is wanted of the backbone, in float32, from the input buffer."""
        network, given = self.network, self._input.data
        with tf32(network.tf32):
            images = given.to(network.dtype, memory_format=network.layout)
            made = network.backbone({network.definition.input_name: images})
        wanted = (
            given if entry == self._input_entry else value
            for entry, value in zip(network.entries, made, strict=True)
        )
        dense = torch.contiguous_format
        return [value.to(torch.float32, memory_format=dense) for value in wanted]

    def wait(self) -> None:
        """Until the results are there."""
        if self._done is not None:
            self._done.synchronize()

    def join(self) -> None:
        """What is asked of the device from now on begins when the results are there."""
        if self._done is not None:
            torch.cuda.current_stream(self.network.device).wait_event(self._done)

    def _own_stream(self) -> AbstractContextManager[object]:
        """After what is asked of the device already: that may still read earlier results."""
        if self._stream is None:
            return nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream(self.network.device))
        own: AbstractContextManager[object] = torch.cuda.stream(self._stream)
        return own


class _Pass:
    """One forward pass; see `engine.protocols.ForwardPass`."""

    def __init__(
        self,
        bound: _Bound,
        images: F4 | U1 | Inputs | Tensor,
        given: Tensor,
        taps: dict[Entry, Tensor],
    ) -> None:
        self._bound, self._images, self._given, self._taps = bound, images, given, taps
        self.network, self.count = bound.network, len(images)
        self.heads = {
            name: TorchHead(program, [taps[e] for e in program.entries], self.count)
            for name, program in self.network.heads.items()
        }

    @functools.cached_property
    def images(self) -> F4:
        """See `engine.protocols.ForwardPass`."""
        if isinstance(self._images, Tensor):
            bytes_ = self._images.dtype == torch.uint8
            return HostCopy(self.images_there if bytes_ else self._images).wait()
        return in_floats(self._images, self.network.definition.preprocessing)

    @functools.cached_property
    def images_there(self) -> Tensor:
        """The same on the device."""
        self._join()
        return self._given[: self.count].contiguous()

    def wait(self) -> None:
        """See `engine.protocols.ForwardPass`."""
        self._require_current()
        self._bound.wait()

    @property
    def logits(self) -> F4:
        """See `engine.protocols.ForwardPass`."""
        return self.head(self.network.deepest).logits

    def layer(self, name: str) -> _LayerView:
        """See `engine.protocols.ForwardPass`."""
        self.network.on_pass()
        return _LayerView(self, name)

    def activation(self, name: str) -> Tensor:
        """See `engine.protocols.ForwardPass`; a tensor on the device."""
        self._join()
        network = self.network
        entry = network.extra.get(name) or network.heads[name].entries[0]
        return self._taps[entry][: self.count]

    def head(self, name: str) -> TorchHead:
        """The head of a layer."""
        self._join()
        return self.heads[name]

    def _join(self) -> None:
        self._require_current()
        self._bound.join()

    def _require_current(self) -> None:
        if self._bound.current is not self:
            raise RuntimeError("the results of this pass are gone: another one has begun")


class _LayerView(LayerOfPass[Tensor, "F4 | Tensor", TorchHead]):
    """In PyTorch: tensors on the network's device."""

    def class_weights(self, targets: I4 | Tensor) -> Tensor:
        dense: Tensor = self._dense()
        return dense[on_device(targets, dense).long()]

    def of(self, images: F4 | Tensor) -> _LayerView:
        run: _Pass = self._pass.network.spare.forward(images, self._name)
        return run.layer(self._name)
