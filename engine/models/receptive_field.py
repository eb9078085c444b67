"""Which part of the input one position of a layer can see, from the graph alone."""

from __future__ import annotations

from ast import literal_eval
from dataclasses import dataclass

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Node
from shardcam.engine.models.layer_names import FEATURES
from shardcam.engine.types import Box

_POINTWISE = FEATURES - {"Convolution", "LayerNorm"} | {
    "BatchNorm", "BlockGrad", "Dropout", "_copy", "_div_scalar", "_maximum_scalar",
    "_minimum_scalar", "_minus_scalar", "_mul_scalar", "_plus_scalar", "broadcast_div",
    "broadcast_mul", "broadcast_sub", "elemwise_sub", "hard_sigmoid", "identity", "relu", "sigmoid",
}  # fmt: skip


@dataclass(frozen=True)
class _Span:
    """On one axis: position i sees `size` pixels from ``start + i * step`` on."""

    start: float = 0
    size: float = 1
    step: float = 1


Spans = tuple[_Span, _Span]  # down, across


def receptive_field(network: NetworkDefinition, layer: str, place: tuple[int, int]) -> Box | None:
    """The part of the input that a position of a layer sees; None: it may see all of it.

    It can reach beyond the edges, where convolutions are padded. None also where the graph
    has an operator on the way whose reach is not known.
    """
    spans = _spans(network, network.graph.number(layer))
    if spans is None:
        return None
    y, x = (span.start + i * span.step for span, i in zip(spans, place, strict=True))
    return y, x, y + spans[0].size, x + spans[1].size


def _spans(network: NetworkDefinition, wanted: int) -> Spans | None:
    found: dict[int, Spans | None] = {}
    nodes = network.graph.nodes
    for number, node in enumerate(nodes[: wanted + 1]):
        if node.op == VARIABLE:
            if node.name == network.input_name:
                found[number] = (_Span(), _Span())
            continue
        below = [found[source] for source, _ in node.inputs if source in found]
        if below:  # else it is made of parameters only
            found[number] = _through(node, below)
    return found[wanted]


def _through(node: Node, below: list[Spans | None]) -> Spans | None:
    known = [spans for spans in below if spans is not None]
    if len(known) < len(below):
        return None
    if node.op in _POINTWISE:
        return _union(known)
    if node.op not in ("Convolution", "Pooling") or node.attrs.get("global_pool") in _TRUE:
        return None
    kernel = _pair(node, "kernel", (1, 1))
    across = (_pair(node, name, default) for name, default in _WINDOW.items())
    windows = zip(known[0], kernel, *across, strict=True)
    down, right = (_slid(*window) for window in windows)
    return down, right


_TRUE = ("True", "1")
_WINDOW = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1)}


def _slid(span: _Span, kernel: int, stride: int, pad: int, dilate: int) -> _Span:
    """What a window sees if each of its positions sees `span`."""
    size = span.size + (kernel - 1) * dilate * span.step
    return _Span(span.start - pad * span.step, size, span.step * stride)


def _union(branches: list[Spans]) -> Spans | None:
    axes = []
    for spans in zip(*branches, strict=True):
        start = min(span.start for span in spans)
        stop = max(span.start + span.size for span in spans)
        if len({span.step for span in spans}) > 1:
            return None
        axes.append(_Span(start, stop - start, spans[0].step))
    return axes[0], axes[1]


def _pair(node: Node, name: str, default: tuple[int, int]) -> tuple[int, int]:
    value = literal_eval(node.attrs.get(name, "()"))
    numbers = tuple(value) if isinstance(value, tuple | list) else (value, value)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else default
