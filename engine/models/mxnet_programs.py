"""What a network computes, cut at its layers: on a device, but for inputs of any shape."""

from __future__ import annotations

import copy
import functools

import mxnet as mx

from shardcam.engine.models.bound_program import Program, backbone, entries_of, program_of
from shardcam.engine.models.closed_form import is_piecewise_linear, pooled_dense_weight
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.folded_norms import with_folded_norms
from shardcam.engine.models.fullgrad_terms import BiasProgram
from shardcam.engine.models.graph import Cut, cut, entry_of
from shardcam.engine.models.graph_forms import differentiable
from shardcam.engine.models.head import HeadProgram
from shardcam.engine.models.joined_attention import with_joined_attention
from shardcam.engine.models.layer_names import class_count, resolve_layer, with_maps
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.models.precision import FP32, INT8, lower
from shardcam.engine.models.whole_blocks import with_whole_blocks
from shardcam.engine.processor.cpu_features import AVX512, features
from shardcam.engine.types import LayerInfo, Quantization


class MxnetPrograms:
    """A backbone at its precision, and exact heads, with their weights on the device.

    Parameters
    ----------
    definition
        The network.
    layers
        Names of the layers to explain; `auto` is allowed.
    precision
        Of the backbone: fp32, bf16 or int8. The heads are float32 always.
    quantization
        What int8 needs, as `engine.models.observed.observe` found it.
    gpu
        Compute on the first GPU that this process sees; it must be usable.
    extra_layers
        Names of layers that are not explained, but whose activations are wanted.
    attention
        Names of the layers that `engine.models.attention_layers` finds, if methods
        read them.

    Raises
    ------
    ConfigError
        The network has no such layer.
    """

    def __init__(
        self,
        definition: NetworkDefinition,
        layers: tuple[str, ...],
        precision: str = FP32,
        quantization: Quantization | None = None,
        gpu: bool = False,
        extra_layers: tuple[str, ...] = (),
        attention: tuple[str, ...] = (),
    ) -> None:
        self.attention = attention
        self.layers: tuple[LayerInfo, ...] = tuple(resolve_layer(definition, n) for n in layers)
        names = [info.name for info in self.layers]
        extra_layers = (*extra_layers, *attention)
        self.definition = definition = with_maps(definition, [*names, *extra_layers])
        self.device = mx.gpu(0) if gpu else mx.cpu()
        self.extra = {name: entry_of(definition.graph, name) for name in extra_layers}
        self._cuts = [cut(definition.graph, name, definition.parameters) for name in names]
        self.entries = entries_of(self._cuts, self.extra.values())
        self._lowering = precision, quantization
        # the logits come from its head, in whatever order
        self.deepest = min(self._cuts, key=lambda c: len(c.head.nodes)).layer

    @functools.cached_property
    def backbone(self) -> Program:
        """From the input to `entries`."""
        definition, entries = self.definition, self.entries
        precision, quantization = self._lowering
        if precision == FP32 and self.device.device_type == "cpu":
            definition, entries = with_joined_attention(definition, entries)
            if features() >= AVX512:
                definition = with_whole_blocks(definition, entries)
        if precision == INT8 and quantization is not None and quantization.folded:
            definition = with_folded_norms(definition, entries)
        return lower(backbone(definition, entries, self.device), *self._lowering)

    def with_backbone(self, backbone: Program) -> MxnetPrograms:
        """The same programs, but this one computes `entries`."""
        other = copy.copy(self)
        other.backbone = backbone
        return other

    @functools.cached_property
    def heads(self) -> dict[str, HeadProgram]:
        """From each layer to the logits."""
        return {
            info.name: self._head(c, info) for info, c in zip(self.layers, self._cuts, strict=True)
        }

    @functools.cached_property
    def biases(self) -> BiasProgram:
        """The whole network in float32 once more, made when a method asks for it."""
        return BiasProgram(self.definition, self.device)

    @functools.cached_property
    def classes(self) -> int:
        """Number of logits."""
        return class_count(self.definition)

    def _head(self, c: Cut, info: LayerInfo) -> HeadProgram:
        definition = self.definition
        program = program_of(symbol_of(differentiable(c.head)), definition, self.device)
        weight = pooled_dense_weight(c, info.shape)
        dense = None
        if weight is not None:
            dense = definition.parameters[weight].reshape(-1, info.shape[0])
        linear = is_piecewise_linear(c)
        return HeadProgram(program, c.crossing, c.backbone, dense, linear)
