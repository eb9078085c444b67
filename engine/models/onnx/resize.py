"""Resize and Upsample."""

from __future__ import annotations

from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Tensor
from shardcam.engine.models.onnx.resize_axes import resize_axes
from shardcam.engine.models.onnx.shapes import take, transpose
from shardcam.engine.types import F4


def resize(call: Call) -> Tensor:
    """Resize by nearest pixels, linear or cubic interpolation."""
    x = call.image()
    changes = resize_axes(call, (0, *x.sizes))
    for axis, change in changes.items():
        part = "" if axis == [*changes][-1] else "rows"
        if change.ndim == 1:
            x = take(call, x, axis, change, part)
        else:
            x = _multiplied(call, x, axis, change, part)
    return x


def _multiplied(call: Call, x: Tensor, axis: int, matrix: F4, part: str) -> Tensor:
    swap = (0, 1, 3, 2)
    label = part or "columns"
    last = x if axis == 3 else transpose(call, x, swap, f"{label}_to")
    weight = call.parameter(f"{label}_matrix", matrix)
    y = call.emit(
        "FullyConnected", [last, weight], label if axis == 2 else part,
        num_hidden=len(matrix), no_bias=True, flatten=False,
    )  # fmt: skip
    return y if axis == 3 else transpose(call, y, swap, part)
