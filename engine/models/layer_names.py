"""Which layers of a network can be explained, and which one `auto` takes."""

from __future__ import annotations

import difflib

import mxnet as mx

from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.closed_form import pooled_dense_weight
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Cut, Node, cut, to_json
from shardcam.engine.models.mxnet_errors import reason
from shardcam.engine.types import AUTO, LayerInfo

# Operators whose outputs people explain; the others reshape or normalise on the way.
FEATURES = frozenset(
    {
        "Activation",
        "Concat",
        "Convolution",
        "LeakyReLU",
        "_npi_concatenate",
        "broadcast_add",
        "clip",
        "elemwise_add",
        "elemwise_mul",
    }
)
_NOT_FEATURES = frozenset({"Pooling", "Flatten", "Reshape", "Pad", "transpose"})


def layer_shapes(network: NetworkDefinition) -> dict[str, tuple[int, ...]]:
    """Shape of the first output of every operator node, for one image, in graph order.

    Raises
    ------
    ModelError
        The network cannot run on an input of this size.
    """
    internals = mx.sym.load_json(to_json(network.graph)).get_internals()
    by_output = dict(zip(internals.list_outputs(), _output_shapes(network, internals), strict=True))
    operators = [n for n in network.graph.nodes if n.op != VARIABLE]
    outputs = {n.name: _output_of(n, by_output) for n in operators}
    return {name: shape[1:] for name, shape in outputs.items() if shape is not None}


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


def auto_layer(network: NetworkDefinition) -> str:
    """The last spatial feature layer: Grad-CAM's usual choice (Selvaraju et al. 2017).

    The last node that every path to the logits goes through, that still has spatial
    extent, that is not pooling, and that has weights above it.

    Raises
    ------
    ConfigError
        The network has no such layer at this image size.
    """
    shapes = layer_shapes(network)
    candidates = _before_weights(network) - _bypassed(network)
    for number, node in reversed([*enumerate(network.graph.nodes)]):
        shape = shapes.get(node.name, ())
        spatial = len(shape) == 3 and shape[1] * shape[2] > 1
        if number not in candidates or node.op in _NOT_FEATURES or not spatial:
            continue
        at = cut(network.graph, node.name, network.parameters)
        if len(at.crossing) == 1 and _has_weights(at):
            return node.name
    raise ConfigError(
        f"{network.name} has no spatial layer at this --image-size; name one by --layer"
    )


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
    shapes = {network.input_name: network.preprocessing.input_shape, **layer_shapes(network)}
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
    return layer_info(network, name, shapes[name])


def layer_info(network: NetworkDefinition, name: str, shape: tuple[int, ...]) -> LayerInfo:
    """A layer's shape and head, without running it."""
    weight = pooled_dense_weight(cut(network.graph, name, network.parameters), shape)
    return LayerInfo(name, shape, closed_form=weight is not None)


def class_count(network: NetworkDefinition) -> int:
    """Number of logits.

    Raises
    ------
    ModelError
        The network does not end in a vector of logits.
    """
    shapes = _output_shapes(network, mx.sym.load_json(to_json(network.graph)))
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ModelError(f"{network.name}: its outputs {shapes} are not a vector of logits")
    return shapes[0][1]
