"""Convolutions with the ReLU that follows, in one kernel of cuDNN: a memory pass less each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from shardcam.engine.models.graph import Entry, Graph, Node
from shardcam.engine.models.torch.torch_windows import convolution

Sides = tuple[int, ...]
CONVOLUTION_RELU, CONVOLUTION_ADD_RELU = "convolution_relu", "convolution_add_relu"


def with_fused_relus(graph: Graph, kept: Collection[Entry]) -> Graph:
    """The same values, but of what only a ReLU reads, or only the sum that it reads.

    Parameters
    ----------
    graph
        The nodes keep their numbers: a ReLU becomes all that is computed with it, which is then
        no longer read. Its attributes are the convolution's.
    kept
        Entries whose values are wanted.
    """
    readers = Counter([*(entry for n in graph.nodes for entry in n.inputs), *graph.heads, *kept])
    nodes = list(graph.nodes)

    def alone(entry: Entry, op: str) -> Node | None:
        node = graph.nodes[entry[0]]
        return node if node.op == op and readers[entry] == 1 else None

    for number, node in enumerate(graph.nodes):
        if node.op != "relu" and node.attrs.get("act_type") != "relu":
            continue
        below = node.inputs[0]
        if found := alone(below, "Convolution"):
            if _fits(found):
                fused = replace(found, op=CONVOLUTION_RELU, name=node.name)
                nodes[number] = fused
        elif total := alone(below, "elemwise_add"):
            for one, other in (total.inputs, total.inputs[::-1]):
                found = alone(one, "Convolution")
                if found is not None and _fits(found):
                    inputs = (other, *found.inputs)
                    nodes[number] = Node(CONVOLUTION_ADD_RELU, node.name, found.attrs, inputs)
                    break
    return replace(graph, nodes=tuple(nodes))


def _fits(node: Node) -> bool:
    return node.attrs["kernel"].count(",") == 1 and node.attrs.get("num_group", "1") == "1"


def convolution_relu(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Sides = (1, 1),
    dilate: Sides = (1, 1), pad: Sides = (0, 0), **_: Any,
) -> Tensor:  # fmt: skip
    """``relu(convolution(x))``."""
    return torch.cudnn_convolution_relu(
        x, weight, bias, stride or (1, 1), pad or (0, 0), dilate or (1, 1), 1
    )


def convolution_add_relu(
    other: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, *,
    stride: Sides = (1, 1), dilate: Sides = (1, 1), pad: Sides = (0, 0), **_: Any,
) -> Tensor:  # fmt: skip
    """``relu(convolution(x) + other)``."""
    return torch.cudnn_convolution_add_relu(
        x, weight, other, 1, bias, stride or (1, 1), pad or (0, 0), dilate or (1, 1), 1
    )


def one_by_one(op: str) -> Callable[..., Tensor]:
    """What a fused operator computes, by operators that are always there."""
    if op == CONVOLUTION_RELU:
        return lambda *inputs, **attributes: convolution(*inputs, **attributes).relu_()
    return lambda other, *inputs, **attributes: (convolution(*inputs, **attributes) + other).relu_()


class Fused:
    """A fused operator, until cuDNN says that it has no kernel for it."""

    def __init__(self, op: str) -> None:
        self._fast: Callable[..., Tensor] | None = FUSED[op]
        self._plain = one_by_one(op)

    def __call__(self, *inputs: Tensor, **attributes: Any) -> Tensor:
        if self._fast is not None and inputs[0].is_cuda:
            try:
                return self._fast(*inputs, **attributes)
            except RuntimeError:  # of lack of memory too: then the other says so
                self._fast = None
        return self._plain(*inputs, **attributes)


FUSED: dict[str, Callable[..., Tensor]] = {
    CONVOLUTION_RELU: convolution_relu,
    CONVOLUTION_ADD_RELU: convolution_add_relu,
}
