"""Dense layers, matrix products, softmax and reductions."""

from __future__ import annotations

import ast
from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axes_of, axis_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor
from shardcam.engine.models.onnx.pool import global_pool
from shardcam.engine.models.onnx.shapes import reshape, vector


def gemm(call: Call) -> Tensor:
    """Gemm as a dense layer: alpha * x W + beta * c."""
    x, weight = call.tensor(), call.array(1)
    call.must_be("transA", 0)
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    transposed = call.integer("transB", 0)
    call.ignore("broadcast")
    if x.rank != 2 or weight.ndim != 2:
        raise ModelError(f"a weight of {weight.shape} does not fit {x.sizes}")
    matrix = weight if transposed else weight.T
    bias = _gemm_bias(call, beta, len(matrix))
    if transposed and alpha == 1:
        return dense_layer(call, x, call.known(1), bias)
    return dense_layer(call, x, Known.of(alpha * matrix), bias)


def _gemm_bias(call: Call, beta: float, units: int) -> Known | None:
    if not call.has(2):
        return None
    bias = call.array(2)
    if bias.size not in (1, units) or (bias.ndim and bias.shape[-1] != bias.size):
        raise ModelError(f"a bias of {bias.shape} does not fit {units} units")
    if beta == 1 and bias.shape == (units,):
        return call.known(2)
    return Known.of(np.broadcast_to(beta * bias.reshape(-1), (units,)))


def dense_layer(call: Call, x: Tensor, weight: Known, bias: Known | None, name: str = "") -> Tensor:
    """(units,inputs) weight on the last axis of `x`."""
    units, width = weight.constant.shape
    if x.sizes[-1] != width:
        raise ModelError(f"a weight of {weight.constant.shape} does not fit {x.sizes}")
    inputs = [
        call.build.weight(known) if known.name else call.parameter(part, known.constant)
        for part, known in (("weight", weight), ("bias", bias)) if known is not None
    ]  # fmt: skip
    row = vector(call, x, "row")
    y = call.emit(
        "FullyConnected", [row, *inputs], name, num_hidden=units, no_bias=bias is None,
        flatten=row.rank == 2,
    )  # fmt: skip
    return reshape(call, y, x.multiple, (*x.sizes[:-1], units), "back")


def softmax(call: Call) -> Tensor:
    """Softmax and LogSoftmax; before opset 13 over all axes from one on."""
    x, op = call.tensor(), "softmax" if call.op == "Softmax" else "log_softmax"
    axis = axis_of(call.integer("axis", 1 if call.opset < 13 else -1), x.rank)
    if axis == 0:
        raise ModelError("it would mix the images of a batch")
    if call.opset >= 13 or prod(x.sizes[axis:]) == 1:
        return call.emit(op, [x], axis=axis)
    flat = reshape(
        call, x, x.multiple * prod(x.sizes[: axis - 1]), (prod(x.sizes[axis - 1 :]),), "flat"
    )
    y = call.emit(op, [flat], "" if flat is x else "softmax", axis=1)
    return reshape(call, y, x.multiple, x.sizes)


_REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}
_REDUCTIONS |= {"ReduceProd": "prod"}


def reduce(call: Call) -> Tensor:
    """ReduceMean, ReduceSum, ReduceMax and ReduceMin over any axes but the batch."""
    x, keep = call.tensor(), bool(call.integer("keepdims", 1))
    none_means_none = bool(call.integer("noop_with_empty_axes", 0))
    axes = axes_of(call, call.optional_array(1), x.rank) or ()
    if not axes and none_means_none:
        return x
    axes = axes or tuple(range(x.rank))
    if 0 in axes:
        raise ModelError("it would mix the images of a batch")
    sizes = tuple(1 if i in axes else n for i, n in enumerate(x.sizes, 1) if keep or i not in axes)
    pooled = _pooled(call, x, axes)
    if pooled is not None:
        return reshape(call, pooled, x.multiple, sizes)
    return call.emit(_REDUCTIONS[call.op], [x], axis=tuple(sorted(axes)), keepdims=keep)


def _pooled(call: Call, x: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    """A mean over height and width is global average pooling, whatever the layout."""
    if call.op != "ReduceMean" or x.rank != 4:
        return None
    source = call.build.source(x, "transpose")
    if source is not None and len(source[1].sizes) == 3:
        order = ast.literal_eval(source[0].attrs["axes"])
        kept = [order[i] for i in range(4) if i not in axes]
        x, axes = source[1], tuple(order[a] for a in axes)
        if kept != [0, 1]:
            return None
    return global_pool(call, x, "avg", "pool") if set(axes) == {2, 3} else None
