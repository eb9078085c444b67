"""Networks that give a class for each pixel, as networks of one score for each class.

The score of a class is the sum of its logits over the pixels where it wins, which pixels these
are carrying no gradient: pytorch-grad-cam's `SemanticSegmentationTarget`, but that a method which
runs the network on other images counts the pixels that are won there.
"""

from __future__ import annotations

from ast import literal_eval
from dataclasses import replace

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Entry, Graph, Node, prune
from shardcam.engine.models.layer_names import layer_shapes
from shardcam.engine.models.links import SOFTMAXES, free_name, in_order, kind_of
from shardcam.engine.types import F4, NO_LINK, SIGMOID, SOFTMAX, LayerInfo

SIDE = 64  # pixels of a stored prediction, at most


def is_segmenter(definition: NetworkDefinition) -> bool:
    """Whether it ends in maps, (N,classes,h,w)."""
    head = definition.graph.nodes[definition.graph.heads[0][0]]
    shape = layer_shapes(definition).get(head.name, ())
    return len(shape) == 3 and sum(n > 1 for n in shape) > 1


def segmenter(definition: NetworkDefinition, wanted: str | None = None) -> NetworkDefinition:
    """The network ending in (N,classes) sums, with the node whose values are its prediction.

    By a softmax the highest of the maps wins a pixel, by a sigmoid each that is above 0. One
    map z becomes the maps -z and z of classes 0 and 1. With `wanted` none the outputs are the
    means of the maps.

    Raises
    ------
    ConfigError
        `wanted` is the softmax of one map.
    """
    build = _Builder(definition)
    if wanted == NO_LINK:
        means = build.add("mean", "means", build.head, axis="(2, 3)")
        told = "the model file ends in maps: their means were taken"
        return replace(
            definition,
            graph=Graph(tuple(build.nodes), (means,)),
            link=NO_LINK,
            remarks=(*definition.remarks, told),
        )
    z, link = build.logits()
    classes, height, width = build.shape(z)
    if classes == 1 and wanted == SOFTMAX:
        raise ConfigError(
            f"--link softmax: {definition.name} has one map, whose softmax is always 1; give "
            "--link sigmoid, or none for numbers"
        )
    remarks = definition.remarks
    if not wanted and not link:
        guess = SIGMOID if classes == 1 else SOFTMAX
        told = f"the model file ends in maps without softmax or sigmoid: --link {guess} was taken"
        remarks = (*remarks, f"{told}; none is for numbers and embeddings")
    link = wanted or link or (SIGMOID if classes == 1 else SOFTMAX)
    if classes == 1:
        minus = build.add("_mul_scalar", "minus", z, scalar="-1.0")
        z = build.add("_npi_concatenate", "sides", minus, z, axis="1", num_args="2")
    if link == SIGMOID:
        won = build.add("_greater_scalar", "won", z, scalar="0.0")
    else:
        best = build.add("max", "best", z, axis="1", keepdims="True")
        won = build.add("broadcast_equal", "won", z, best)
    won = build.add("BlockGrad", "where_won", won)
    logits = build.add("elemwise_mul", "scores_won", z, won)
    logits = build.add("sum", "logits", logits, axis="(2, 3)")
    step = -(-max(height, width) // SIDE)
    first = step // 2
    seen = build.add(
        *("slice", "prediction", z),
        begin=f"(None, None, {first}, {first})",
        end="(None, None, None, None)",
        step=f"(None, None, {step}, {step})",
    )
    sizes = (len(range(first, n, step)) for n in (height, width))
    return replace(
        definition,
        graph=Graph(tuple(build.nodes), (logits,)),
        link=link,
        prediction=LayerInfo(build.nodes[seen[0]].name, (max(2, classes), *sizes), False),
        remarks=remarks,
    )


def over_pixels(definition: NetworkDefinition, weights: F4) -> NetworkDefinition:
    """The same, with sums over given pixels in place of those that a class wins.

    Parameters
    ----------
    definition
        With a prediction.
    weights
        (h,w) what each pixel of the maps counts.
    """
    assert definition.prediction is not None
    build = _Builder(definition)
    mask = free_name("target_mask", build.nodes)
    build.nodes.append(Node("null", mask))
    entry = len(build.nodes) - 1, 0
    scores = build.add("broadcast_mul", "scores_masked", _scores_of_pixels(definition), entry)
    logits = build.add("sum", "logits", scores, axis="(2, 3)")
    prediction = definition.graph.number(definition.prediction.name), 0
    return replace(
        definition,
        graph=prune(Graph(tuple(build.nodes), (logits,)), [prediction]),
        parameters={**definition.parameters, mask: np.ascontiguousarray(weights[None, None])},
    )


def maps_size(definition: NetworkDefinition) -> tuple[int, int]:
    """Height and width of the maps of a network that has a prediction."""
    node = definition.graph.nodes[_scores_of_pixels(definition)[0]]
    _, height, width = layer_shapes(definition)[node.name]
    return height, width


def _scores_of_pixels(definition: NetworkDefinition) -> Entry:
    """What the prediction is a part of, (N,classes,h,w)."""
    assert definition.prediction is not None
    graph = definition.graph
    (scores,) = graph.nodes[graph.number(definition.prediction.name)].inputs
    return scores


class _Builder:
    """A graph that grows at its end."""

    def __init__(self, definition: NetworkDefinition) -> None:
        self.nodes = [*definition.graph.nodes]
        self.head, self._parameters = definition.graph.heads[0], definition.parameters
        self._shapes = layer_shapes(definition)
        self._sizes: dict[Entry, tuple[int, ...]] = {}

    def shape(self, entry: Entry) -> tuple[int, ...]:
        return self._sizes.get(entry) or self._shapes.get(self.nodes[entry[0]].name, ())

    def add(self, op: str, name: str, *inputs: Entry, **attrs: str) -> Entry:
        self.nodes.append(Node(op, free_name(name, self.nodes), attrs, inputs))
        return len(self.nodes) - 1, 0

    def logits(self) -> tuple[Entry, str | None]:
        """(N,classes,h,w) before the link at the end, and that link."""
        link, channel, at = None, 1, self.head
        entry = at
        while before := in_order(self.nodes[at[0]], self.nodes, self._parameters):
            if sorted(self.shape(before)) != sorted(self.shape(at)):
                break
            at = before
        node = self.nodes[at[0]]
        if node.op in SOFTMAXES:
            channel = 1 if node.op == "SoftmaxActivation" else int(node.attrs.get("axis", "-1")) % 4
            link, entry = SOFTMAX, node.inputs[0]
        elif kind_of(node) == "sigmoid":
            link, entry = SIGMOID, node.inputs[0]
        while (node := self.nodes[entry[0]]).op == "transpose":
            axes = literal_eval(node.attrs["axes"])
            channel, entry = (axes[channel] if link == SOFTMAX else 1), node.inputs[0]
        if channel == 1:
            return entry, link
        sizes = self.shape(entry)
        order = (channel, *(axis for axis in (1, 2, 3) if axis != channel))
        moved = self.add("transpose", "channels_first", entry, axes=str((0, *order)))
        self._sizes[moved] = tuple(sizes[axis - 1] for axis in order)
        return moved, link
