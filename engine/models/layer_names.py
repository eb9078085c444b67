"""Which layers of a network can be explained, and which one `auto` takes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from math import prod
from typing import TypeVar
from weakref import WeakKeyDictionary

import mxnet as mx

from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.axis_parts import Axes, follow_axes
from shardcam.engine.models.closed_form import pooled_dense_weight
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Cut, Node, cut, with_rows
from shardcam.engine.models.last_block import counts, first_of_last_block
from shardcam.engine.models.layouts import Layout, as_maps, layout_of, layout_of_tokens
from shardcam.engine.models.mxnet_errors import reason
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.types import AUTO, LayerInfo

# Operators whose outputs people explain; the others reshape or normalise on the way.
FEATURES = frozenset(
    {
        "Activation",
        "Concat",
        "Convolution",
        "LayerNorm",
        "LeakyReLU",
        "_npi_concatenate",
        "broadcast_add",
        "clip",
        "elemwise_add",
        "elemwise_mul",
    }
)
_MIXED = FEATURES - {"Convolution"}  # a convolution there projects queries and keys
_NOT_FEATURES = frozenset(
    {"FullyConnected", "Flatten", "Pad", "Pooling", "Reshape", "take", "transpose"}
)


Found = TypeVar("Found")


def _once(function: Callable[[NetworkDefinition], Found]) -> Callable[[NetworkDefinition], Found]:
    """Remember what was found of each network that is still there; nobody may change it."""
    found: WeakKeyDictionary[NetworkDefinition, Found] = WeakKeyDictionary()

    @wraps(function)
    def remembered(network: NetworkDefinition) -> Found:
        if network not in found:
            found[network] = function(network)
        return found[network]

    return remembered


def layer_shapes(network: NetworkDefinition) -> dict[str, tuple[int, ...]]:
    """Shape of every operator's first output for one image, in graph order; a map is (C,h,w).

    Raises
    ------
    ModelError
        The network cannot run on an input of this size.
    """
    return _as_maps(_whole_shapes(network), map_layouts(network))


@_once
def map_layouts(network: NetworkDefinition) -> Mapping[str, Layout]:
    """How each layer that has a map lies in its tensor."""
    picture = network.preprocessing.input_shape[1:]
    shapes, found = _whole_shapes(network), {}
    for name, axes in followed_axes(network).items():
        layout = layout_of(axes)
        if layout is None and network.tokens is not None:
            layout = layout_of_tokens(shapes.get(name, ()), network.tokens, picture)
        if layout is not None:
            found[name] = layout
    return found


@_once
def followed_axes(network: NetworkDefinition) -> Mapping[str, Axes]:
    """What each axis of each operator's first output stands for."""
    sizes, shapes = network.preprocessing.input_shape, _whole_shapes(network)
    return follow_axes(network.graph, network.input_name, sizes, shapes, network.parameters)


def with_maps(network: NetworkDefinition, layers: Iterable[str]) -> NetworkDefinition:
    """The network whose `layers` are (N,C,h,w), however they lie in it: the one to cut and run.

    Of those that are no maps the batch is an axis of its own: see `engine.models.graph.with_rows`.
    """
    wanted = {*layers}
    laid = replace(network, graph=as_maps(network.graph, map_layouts(network), wanted))
    shapes = _whole_shapes(laid)
    nodes, parameters = laid.graph.nodes, laid.parameters
    cuts = [cut(laid.graph, name, parameters) for name in wanted & shapes.keys()]
    crossing = wanted | {nodes[number].name for at in cuts for number, _ in at.backbone[1:]}
    pieces = {name: shapes[name][0] for name in crossing & shapes.keys() if shapes[name][0] > 1}
    return replace(laid, graph=with_rows(laid.graph, pieces)) if pieces else laid


def _as_maps(
    shapes: Mapping[str, tuple[int, ...]], layouts: Mapping[str, Layout]
) -> dict[str, tuple[int, ...]]:
    return {n: layouts[n].shape if n in layouts else s[1:] for n, s in shapes.items()}


@_once
def _whole_shapes(network: NetworkDefinition) -> Mapping[str, tuple[int, ...]]:
    """Of the first output of every operator, for a batch of one image."""
    internals = symbol_of(network.graph).get_internals()
    by_output = dict(zip(internals.list_outputs(), _output_shapes(network, internals), strict=True))
    operators = [n for n in network.graph.nodes if n.op != VARIABLE]
    outputs = {n.name: _output_of(n, by_output) for n in operators}
    return {name: shape for name, shape in outputs.items() if shape is not None}


def _output_shapes(network: NetworkDefinition, symbol: mx.sym.Symbol) -> list[tuple[int, ...]]:
    shape = network.preprocessing.input_shape
    arguments = set(symbol.list_arguments())
    known = {n: v.shape for n, v in network.parameters.items() if n in arguments}
    try:
        found, shapes, states = symbol.infer_shape(**known, **{network.input_name: (1, *shape)})
    except mx.base.MXNetError as error:
        raise ModelError(f"{network.name}: cannot take {shape} input: {reason(error)}") from error
    names = (*symbol.list_arguments(), *symbol.list_auxiliary_states())
    for name, meant in zip(names, (*found, *states), strict=True):
        value = network.parameters.get(name)
        if value is not None and value.shape != tuple(meant):  # MXNet checks few of them
            raise ModelError(f"{network.name}: its weight {name!r} is {value.shape}, not {meant}")
    return [tuple(s) for s in shapes]


def _output_of(node: Node, outputs: dict[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    for suffix in ("_out",) if node.op.startswith("_np") else ("_output", "_output0"):
        if node.name + suffix in outputs:
            return tuple(outputs[node.name + suffix])
    return None


@_once
def auto_layer(network: NetworkDefinition) -> str:
    """The layer that Grad-CAM is usually taken at.

    The last node that every path to the logits goes through, that still has spatial extent,
    that is not pooling, and that has weights above it (Selvaraju et al. 2017). If that is no
    (C,h,w), and positions are mixed by attention or dense layers: the first normalisation of the
    last block that does.

    Raises
    ------
    ConfigError
        The network has no such layer at this image size.
    """
    graph = network.graph
    axes, layouts = followed_axes(network), map_layouts(network)
    maps = {name for name, layout in layouts.items() if prod(layout.shape[1:]) > 1}
    found = _last_passage(network, maps)
    if found is None or not layouts[found].is_map:
        features = {n.name for n in graph.nodes if n.op in _MIXED and n.name in maps}
        found = first_of_last_block(graph, axes, features, network.parameters) or found
    if found is None:
        raise ConfigError(
            f"{network.name} has no spatial layer at this --image-size; name one by --layer"
        )
    return found


def _last_passage(network: NetworkDefinition, maps: set[str]) -> str | None:
    candidates = _before_weights(network) - _bypassed(network)
    for number, node in reversed([*enumerate(network.graph.nodes)]):
        if number not in candidates or node.op in _NOT_FEATURES or node.name not in maps:
            continue
        at = cut(network.graph, node.name, network.parameters)
        if len(at.crossing) == 1 and _has_weights(at):
            return node.name
    return None


def _bypassed(network: NetworkDefinition) -> set[int]:
    """Numbers of nodes that an edge leads past: cutting at each of a large network takes long."""
    nodes = network.graph.nodes
    reach, bypassed = 0, set()  # the farthest reader of what comes before
    readers = {s: i for i, n in enumerate(nodes) for s, _ in n.inputs}  # the last of each
    for number, node in enumerate(nodes):
        if number < reach:
            bypassed.add(number)
        if node.name not in network.parameters:
            reach = max(reach, readers.get(number, 0))
    return bypassed


def _before_weights(network: NetworkDefinition) -> set[int]:
    """Numbers of operators above which there are weights."""
    nodes = network.graph.nodes
    before: set[int] = set()
    for number, node in reversed([*enumerate(nodes)]):
        sources = {source for source, _ in node.inputs}
        weighted = any(nodes[source].name in network.parameters for source in sources)
        if network.prediction:  # not those that enlarge the scores
            weighted = weighted and node.op in ("Convolution", "Deconvolution")
        if weighted or number in before:
            before |= sources
    return {number for number in before if nodes[number].op != VARIABLE}


def _has_weights(at: Cut) -> bool:
    """Without weights above it, a layer's channels are the class scores already."""
    return any(n.op == VARIABLE and n.name not in at.crossing for n in at.head.nodes)


def resolve_layer(network: NetworkDefinition, wanted: str, option: str = "--layer") -> LayerInfo:
    """Find a layer by name, or `auto`; a trailing ``_output`` is accepted, and the input's name.

    Raises
    ------
    ConfigError
        No such layer; the message offers the nearest names.
    """
    whole, layouts = _whole_shapes(network), map_layouts(network)
    shapes = {network.input_name: network.preprocessing.input_shape, **_as_maps(whole, layouts)}
    name = auto_layer(network) if wanted == AUTO else wanted
    if name not in shapes and name.removesuffix("_output") in shapes:
        name = name.removesuffix("_output")
    if name not in shapes:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and shapes.keys() >= {*parts}:
            repeated = " ".join(f"{option} {part}" for part in parts)
            raise ConfigError(f"{option} {wanted}: takes one layer; repeat it: {repeated}")
        by_lower = {known.lower(): known for known in shapes}
        found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
        near = [by_lower[lower] for lower in found]
        offer = f"; nearest: {', '.join(near)}" if near else "; shardcam layers lists them"
        raise ConfigError(f"{option}: {network.name} has no layer {wanted!r}{offer}")
    if name not in layouts and whole.get(name, (1,))[0] != 1:
        raise ConfigError(
            f"{option} {name}: it holds pieces of images, which cannot be put together"
        )
    return layer_info(network, layouts, name, shapes[name])


def layer_info(
    network: NetworkDefinition, layouts: Mapping[str, Layout], name: str, shape: tuple[int, ...]
) -> LayerInfo:
    """A layer's shape and head, without running it."""
    if name not in layouts and name != network.input_name:
        return LayerInfo(name, shape, closed_form=False, has_map=False)
    graph = as_maps(network.graph, layouts, [name])
    weight = pooled_dense_weight(cut(graph, name, network.parameters), shape)
    layout = layouts.get(name)
    lies_as = layout.words if layout and not layout.is_map else ""
    return LayerInfo(name, shape, closed_form=weight is not None, lies_as=lies_as)


def idle_layers(network: NetworkDefinition) -> set[str]:
    """Layers of tokens with a map that is zero: of what follows, only class tokens are read."""
    axes = followed_axes(network)
    return {
        name
        for name, layout in map_layouts(network).items()
        if layout.axis and not counts(network.graph, name, axes, network.parameters)
    }


def class_count(network: NetworkDefinition) -> int:
    """Number of logits.

    Raises
    ------
    ModelError
        The network does not end in a vector of logits.
    """
    shapes = _output_shapes(network, symbol_of(network.graph))
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ModelError(f"{network.name}: its outputs {shapes} are not a vector of logits")
    return shapes[0][1]
