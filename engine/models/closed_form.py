"""Heads whose gradient is known without a backward pass.

Where global average pooling and one dense layer follow a layer A, the logit is linear
in A's spatial mean: d logit[t] / d A[c,y,x] = W[t,c] / (h*w) (Zhou et al. 2016). A 1x1
convolution before the pooling is the same.
"""

from __future__ import annotations

from ast import literal_eval

from shardcam.engine.models.graph import VARIABLE, Cut, Graph, Node

_PIECEWISE_LINEAR = frozenset(
    {
        "BatchNorm", "BlockGrad", "Concat", "Convolution", "Deconvolution", "Flatten",
        "FullyConnected", "Pad", "Pooling", "Reshape", "SliceChannel", "UpSampling",
        "_copy", "_div_scalar", "_minus_scalar", "_mul_scalar", "_npi_concatenate",
        "_plus_scalar", "broadcast_add", "broadcast_sub", "clip", "elemwise_add",
        "elemwise_sub", "expand_dims", "hard_sigmoid", "identity", "mean", "relu", "reshape",
        "slice", "slice_axis", "squeeze", "sum", "transpose",
    }
)  # fmt: skip
_SHAPE_ONLY = ("Flatten", "Reshape", "reshape", "squeeze", "identity", "_copy")
_POOLED_DENSE = ("Convolution", "FullyConnected", "Pooling", "mean", "transpose", *_SHAPE_ONLY)


def pooled_dense_weight(cut: Cut, shape: tuple[int, ...]) -> str | None:
    """Name of the dense layer's weight, if the head is global average pooling + one dense layer.

    They may come in either order, the dense layer first as a 1x1 convolution.

    Parameters
    ----------
    cut
        The network, cut at the layer.
    shape
        The layer's output for one image, (C,h,w).
    """
    operators = [node for node in cut.head.nodes if node.op != VARIABLE]
    if len(cut.crossing) > 1 or len(shape) != 3 or len(operators) < 2:
        return None
    first, *rest = operators
    linear = [first, *(node for node in rest if node.op not in _SHAPE_ONLY)]
    if len(linear) != 2:
        return None
    dense, pooling = linear if _is_pointwise(first) else reversed(linear)
    if not _is_global_average(pooling, shape) or not (dense is first or _is_dense(dense)):
        return None
    return cut.head.nodes[dense.inputs[1][0]].name


def may_be_pooled_dense(graph: Graph) -> set[str]:
    """Names of the operators of which `pooled_dense_weight` can be other than None.

    It takes a cut of the whole network, and this one pass for all layers.
    """
    readers: dict[int, list[int]] = {}
    for number, node in enumerate(graph.nodes):
        for source, _ in node.inputs:
            readers.setdefault(source, []).append(number)
    found: set[int] = set()
    for number in reversed(range(len(graph.nodes))):
        follow = readers.get(number, ())
        if all(i in found and graph.nodes[i].op in _POOLED_DENSE for i in follow):
            found.add(number)
    return {graph.nodes[number].name for number in found}


def is_piecewise_linear(cut: Cut) -> bool:
    """Whether the logits have no second derivative with regard to the layer, but at kinks."""
    return all(map(_bends_nowhere, cut.head.nodes))


def _bends_nowhere(node: Node) -> bool:
    if node.op == "Activation":
        return node.attrs.get("act_type") == "relu"
    if node.op == "LeakyReLU":
        return node.attrs.get("act_type", "leaky") in ("leaky", "prelu")
    return node.op == VARIABLE or node.op in _PIECEWISE_LINEAR


def _is_dense(node: Node) -> bool:
    """A dense layer, or the convolution of a 1x1 picture that equals one."""
    return node.op == "FullyConnected" or _is_pointwise(node)


def _is_pointwise(node: Node) -> bool:
    """A dense layer at each position."""
    if node.op != "Convolution" or node.attrs.get("num_group", "1") != "1":
        return False
    in_place = {*_numbers(node, "stride")} <= {1} and {*_numbers(node, "pad")} <= {0}
    return _numbers(node, "kernel") == (1, 1) and in_place


def _is_global_average(node: Node, shape: tuple[int, ...]) -> bool:
    if node.op == "mean":
        axes = _numbers(node, "axis")
        kept_out = node.attrs.get("exclude", "False") in ("True", "1")
        return sorted(axis % 4 for axis in axes) == [2, 3] and not kept_out
    if node.op != "Pooling" or node.attrs.get("pool_type", "max") != "avg":
        return False
    if node.attrs.get("global_pool", "False") in ("True", "1"):
        return True
    unpadded = set(_numbers(node, "pad")) <= {0}
    return _numbers(node, "kernel") == shape[1:] and unpadded


def _numbers(node: Node, attribute: str) -> tuple[int, ...]:
    value = literal_eval(node.attrs.get(attribute, "()"))
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)
