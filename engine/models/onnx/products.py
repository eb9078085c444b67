"""Matrix products, with the broadcasting of NumPy."""

from __future__ import annotations

from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.dense import dense_layer
from shardcam.engine.models.onnx.onnx_graph import Array, Known, Tensor
from shardcam.engine.models.onnx.shapes import reshape, transpose


def matmul(call: Call) -> Tensor:
    """MatMul by a constant, or of two tensors, image by image."""
    return product(call, call.plain(0), call.plain(1))


def product(call: Call, a: Known | Tensor, b: Known | Tensor) -> Tensor:
    """a b over the last two axes; the axes before them are broadcast."""
    if isinstance(b, Known):
        assert isinstance(a, Tensor)  # of two constants folding makes one
        return _by_constant(call, a, b.constant)
    if isinstance(a, Known):
        matrix = call.rows(a) if a.values[0].ndim == b.rank else a.constant
        turned = transpose(call, b, _swap(b), "right_turned")
        order = (*range(matrix.ndim - 2), matrix.ndim - 1, matrix.ndim - 2)
        if matrix.ndim < 2:
            return _by_constant(call, turned, matrix)
        y = _by_constant(call, turned, matrix.transpose(order), "product_turned")
        return transpose(call, y, _swap(y))
    return _of_tensors(call, a, b)


def _by_constant(call: Call, a: Tensor, matrix: Array, part: str = "") -> Tensor:
    """A dense layer where one matrix serves all, else a product with a constant for each image."""
    if matrix.ndim == 1:
        y = dense_layer(call, a, Known.of(matrix[None]), None, part)
        return reshape(call, y, a.multiple, a.sizes[:-1], "vector")
    if not 2 <= matrix.ndim <= a.rank or a.rank < 2:
        raise ModelError(f"a constant of {matrix.shape} does not fit {a.sizes} for each image")
    if prod(matrix.shape[:-2]) == 1:
        flat = matrix.reshape(matrix.shape[-2:])
        return dense_layer(call, a, Known.of(flat.T), None, part)
    stacked = matrix.reshape(*(1,) * (a.rank - matrix.ndim), *matrix.shape)
    if stacked.shape[0] != 1:
        raise ModelError(f"a constant of {matrix.shape} would be one for each image")
    return _of_tensors(call, a, call.spread(stacked, a), part)


def _of_tensors(call: Call, a: Tensor, b: Tensor, part: str = "") -> Tensor:
    if a.rank != b.rank or a.rank < 3 or a.multiple != b.multiple:
        raise ModelError(f"{a.sizes} and {b.sizes} for each image are not supported")
    rows, columns = a.sizes[-2], b.sizes[-1]
    try:
        outer = np.broadcast_shapes(a.sizes[:-2], b.sizes[:-2])
    except ValueError:
        raise ModelError(f"{a.sizes} and {b.sizes} for each image do not fit") from None
    if prod(b.sizes[:-2]) == 1:  # one matrix for each image, for all rows of it
        batch, height = a.multiple, prod(a.sizes[:-1])
    else:
        batch, height = a.multiple * prod(outer), rows
        a, b = (
            x if x.sizes[:-2] == outer
            else call.emit("broadcast_to", [x], side, shape=(0, *outer, *x.sizes[-2:]))
            for x, side in ((a, "left_all"), (b, "right_all"))
        )  # fmt: skip
    left = reshape(call, a, batch, (height, a.sizes[-1]), "left")
    right = reshape(call, b, batch, b.sizes[-2:], "right")
    y = call.emit("batch_dot", [left, right], part if left is a else part or "product")
    return reshape(call, y, a.multiple, (*outer, rows, columns))


def _swap(x: Tensor) -> tuple[int, ...]:
    """The order that turns the last two axes."""
    if x.rank < 3:
        raise ModelError("it would mix the images of a batch")
    return (*range(x.rank - 2), x.rank - 1, x.rank - 2)
