"""Which layers of a network can be explained, and which one `auto` takes."""

from __future__ import annotations

import difflib

import mxnet as mx

from engine.errors import ConfigError, ModelError
from engine.models.definition import NetworkDefinition
from engine.models.graph import VARIABLE, cut, pooled_dense_weight, to_json
from engine.types import LayerInfo

AUTO = "auto"
_NOT_FEATURES = frozenset({"Pooling", "Flatten", "Reshape", "Pad"})


def layer_shapes(network: NetworkDefinition) -> dict[str, tuple[int, ...]]:
    """Shape of the first output of every operator node, for one image, in graph order."""
    shape = (1, *network.preprocessing.input_shape)
    internals = mx.sym.load_json(to_json(network.graph)).get_internals()
    _, shapes, _ = internals.infer_shape(**{network.input_name: shape})
    by_output = dict(zip(internals.list_outputs(), shapes, strict=True))
    operators = [n.name for n in network.graph.nodes if n.op != VARIABLE]
    outputs = {name: _output_of(name, by_output) for name in operators}
    return {name: shape[1:] for name, shape in outputs.items() if shape is not None}


def _output_of(name: str, outputs: dict[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    for suffix in ("_output", "_output0"):
        if name + suffix in outputs:
            return tuple(outputs[name + suffix])
    return None


def auto_layer(network: NetworkDefinition) -> str:
    """The last spatial feature layer: Grad-CAM's usual choice (Selvaraju et al. 2017).

    The last node that every path to the logits goes through, that still has spatial
    extent, and that is no pooling.

    Raises
    ------
    ConfigError
        The network has no such layer at this image size.
    """
    shapes = layer_shapes(network)
    for node in reversed(network.graph.nodes):
        shape = shapes.get(node.name, ())
        spatial = len(shape) == 3 and shape[1] * shape[2] > 1
        if node.op == VARIABLE or node.op in _NOT_FEATURES or not spatial:
            continue
        if len(cut(network.graph, node.name, network.parameters).crossing) == 1:
            return node.name
    raise ConfigError(
        f"{network.name} has no spatial layer at this --image-size; name one by --layer"
    )


def resolve_layer(network: NetworkDefinition, wanted: str) -> LayerInfo:
    """Find a layer by name, or `auto`; a trailing ``_output`` is accepted.

    Raises
    ------
    ConfigError
        No such layer; the message offers the nearest names.
    """
    shapes = layer_shapes(network)
    name = auto_layer(network) if wanted == AUTO else wanted
    if name not in shapes and name.removesuffix("_output") in shapes:
        name = name.removesuffix("_output")
    if name not in shapes:
        near = difflib.get_close_matches(name, shapes, n=3, cutoff=0.3)
        offer = f"; nearest: {', '.join(near)}" if near else ""
        raise ConfigError(f"--layer: {network.name} has no layer {wanted!r}{offer}")
    head = cut(network.graph, name, network.parameters).head
    pooled_dense = pooled_dense_weight(head) is not None
    return LayerInfo(name, shapes[name], closed_form=pooled_dense, pooled_dense=pooled_dense)


def class_count(network: NetworkDefinition) -> int:
    """Number of logits.

    Raises
    ------
    ModelError
        The network ends in something that is no vector of logits.
    """
    shape = (1, *network.preprocessing.input_shape)
    symbol = mx.sym.load_json(to_json(network.graph))
    _, shapes, _ = symbol.infer_shape(**{network.input_name: shape})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ModelError(f"{network.name}: its outputs {shapes} are no vector of logits")
    return int(shapes[0][1])
