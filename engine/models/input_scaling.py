"""Whether a network scales its input itself, as Keras's exports do, and what it then expects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Node

_BY: dict[
    str, Callable[[float, float, float], tuple[float, float]]
] = {  # what an operator with a constant c makes of a x + b
    "plus": lambda a, b, c: (a, b + c),
    "minus": lambda a, b, c: (a, b - c),
    "rminus": lambda a, b, c: (-a, c - b),
    "mul": lambda a, b, c: (a * c, b * c),
    "div": lambda a, b, c: (a / c, b / c),
    "rdiv": lambda a, b, c: (math.nan, math.nan),
}
_KINDS = {"add": "plus", "sub": "minus"} | {name: name for name in _BY}
_NORM = "BatchNorm"
_CUTTING = ("SliceChannel", "slice", "slice_axis", "take")
_PASSING = (
    *_CUTTING,
    *("Cast", "Pad", "Reshape", "UpSampling", "_contrib_BilinearResize2D", "_copy", "expand_dims"),
    *("identity", "reverse", "transpose"),
)
_LARGE = 16  # a mean or deviation that only pixels up to 255 have
_SMALL = 0.02  # a deviation that is made one only of pixels up to 1


@dataclass(frozen=True)
class InnerScaling:
    """What a network does to its input before anything else."""

    node: str  # the first operator that scales, shifts or normalises it
    white: int | None  # of the pixels that it expects: 255 or 1; None: it does not show

    def preprocessing(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation that give the network such pixels; None if they are not known."""
        return None if self.white is None else plain_pixels(channels, self.white)


def plain_pixels(channels: int, white: int = 255) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels that are only put on the scale where white is so much."""
    return (0.0,) * channels, (255.0 / white,) * channels


def inner_scaling(network: NetworkDefinition) -> InnerScaling | None:
    """How the network scales its input itself; None if it does not.

    The pixels it expects are those whose mean becomes 0 and whose deviation becomes 1: by
    arithmetic with constants, or by the statistics of a batch normalisation. The first operator
    after which they can only be of one range decides. What takes standardised pixels is no
    scaling.
    """
    first, a, b, middle, spread = "", 1.0, 0.0, 0.0, 1.0
    for node in _scaling_nodes(network):
        first = first or node.name
        mean, deviation = 0.0, 1.0
        if node.op == _NORM:
            mean, deviation = _statistics(network, node)
        else:
            a, b = _scaled(network, node, a, b)
        middle, spread = ((mean - b) / a, deviation / abs(a)) if a else (math.nan, math.nan)
        if white := _white(middle, spread, 0.5 if node.op == _NORM else 1.0):
            return InnerScaling(first, white)
        if node.op == _NORM:
            break
    if not first or (abs(middle) < 0.5 and 0.3 < spread < 3):
        return None
    return InnerScaling(first, None)


def with_inner_scaling(network: NetworkDefinition) -> NetworkDefinition:
    """The network with the pixels that it expects, if it scales them itself."""
    own = network.preprocessing
    scaling = inner_scaling(network)
    if scaling is None or (found := scaling.preprocessing(len(own.mean))) is None:
        return network
    return replace(network, preprocessing=replace(own, mean=found[0], std=found[1]))


def _white(mean: float, deviation: float, most: float) -> int | None:
    """255, 1 or None: white of pixels of that mean, whose deviation from 0 to 1 is at `most`."""
    if deviation >= _LARGE or mean >= _LARGE:
        return 255
    return 1 if deviation <= _SMALL or (0.05 <= mean <= 1 and deviation <= most) else None


def _scaling_nodes(network: NetworkDefinition) -> Iterator[Node]:
    """The operators that only scale the input, up to the first that does more.

    Where the channels are taken apart, those of the first part.
    """
    graph = network.graph
    number = graph.number(network.input_name)
    while True:
        readers = [i for i, n in enumerate(graph.nodes) if any(s == number for s, _ in n.inputs)]
        apart = graph.nodes[number].op in _CUTTING or all(
            graph.nodes[i].op in _CUTTING for i in readers
        )
        if not readers or not (len(readers) == 1 or apart):
            return
        node = graph.nodes[readers[0]]
        others = [graph.nodes[source] for source, _ in node.inputs if source != number]
        if any(other.op != VARIABLE for other in others):
            return
        if node.op == _NORM or _kind(node.op) in _KINDS:
            yield node
        elif node.op not in _PASSING:
            return
        number = readers[0]


def _kind(op: str) -> str:
    return (
        op.removesuffix("_scalar").removeprefix("broadcast_").removeprefix("elemwise_").strip("_")
    )


def _scaled(network: NetworkDefinition, node: Node, a: float, b: float) -> tuple[float, float]:
    """a and b of a x + b behind an operator, on average over the channels."""
    kind = _KINDS[_kind(node.op)]
    if "scalar" in node.attrs:
        constant = float(node.attrs["scalar"])
    else:
        names = [network.graph.nodes[source].name for source, _ in node.inputs]
        values = [network.parameters[name] for name in names if name in network.parameters]
        constant = float(values[0].mean()) if len(values) == 1 else math.nan
        if kind in ("minus", "div") and names[0] in network.parameters:
            kind = f"r{kind}"
    if kind == "div" and constant == 0:
        return math.nan, math.nan
    return _BY[kind](a, b, constant)


def _statistics(network: NetworkDefinition, node: Node) -> tuple[float, float]:
    """Mean and deviation of what a batch normalisation was trained on, over the channels."""
    names = [network.graph.nodes[source].name for source, _ in node.inputs[3:]]
    if len(names) != 2 or not network.parameters.keys() >= {*names}:
        return math.nan, math.nan
    mean, variance = (float(network.parameters[name].mean()) for name in names)
    return mean, float(np.sqrt(max(variance, 0) + float(node.attrs.get("eps", 1e-3))))
