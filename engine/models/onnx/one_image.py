"""Files written for one image, with its axis of length one left out, moved or merged.

What such a file computes of one image is computed of each: a tensor that is (a,b,c) in the file
is (N*a,b,c) here, the file's first axis inside of the batch.  A node that works along that axis
gets (N,a,b,c), with its axes counted one further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axes_of, axis_of, reshaped, squeezed, unsqueezed
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Known, Shape, Tensor, Value
from shardcam.engine.models.onnx.shapes import reshape

Rule = Callable[[Call], Value | tuple[Value, ...]]

_SHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_BROADCASTING = frozenset(
    ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Where", "PRelu", "Expand")
)
_AXIS = ("Softmax", "LogSoftmax", "Concat", "Split", "Gather")
# A file that leaves the batch open and fails at one of these means a batch of one all the same.
BAKED = (*_SHAPING, "Gather", "MatMul", "Gemm")


def translated(call: Call, rule: Rule) -> Value | tuple[Value, ...]:
    """A node of a file for one image."""
    if call.op == "Squeeze" and "axes" not in call.attributes and not call.has(1):
        return _shaped(call)  # the batch is one of the axes that go
    try:
        return rule(call)
    except ModelError:
        if call.op in _SHAPING:
            return _shaped(call)
        if not (call.op in _BROADCASTING or call.op in _AXIS or call.op in _SHIFTED):
            raise
        return _lifted(call, rule)


def _shaped(call: Call) -> Tensor:
    """The numbers of one image in another shape."""
    x = call.tensor()
    return _lowered(call, x, _shape(call, x.shape(1)), "")


def _shape(call: Call, shape: Shape) -> Shape:
    if call.op == "Reshape":
        return reshaped(call, call.array(1), shape)
    if call.op == "Flatten":
        axis = call.integer("axis", 1) % (len(shape) + 1)
        return prod(shape[:axis]), prod(shape[axis:])
    change = squeezed if call.op == "Squeeze" else unsqueezed
    return change(call, call.optional_array(1), shape)


def _lowered(call: Call, x: Tensor, shape: Shape, part: str = "lowered") -> Tensor:
    return reshape(call, x, shape[0] if shape else 1, shape[1:], part)


def _lifted(call: Call, rule: Rule) -> tuple[Value, ...]:
    """A node that works along the first axis."""
    given = [call.plain(i) for i in range(len(call.inputs)) if call.has(i)]
    ranks = [v.rank if isinstance(v, Tensor) else v.values[0].ndim for v in given]
    if call.op == "Expand":
        ranks[1] = call.array(1).size
    lifted: list[Value | None] = []
    for i, value in enumerate(call.inputs):
        if isinstance(value, Tensor):
            rank = max(ranks) if call.op in _BROADCASTING else value.rank
            shape = (*(1,) * (rank - value.rank), *value.shape(1))
            value = reshape(call, value, 1, shape, f"lifted{i}")
        lifted.append(value)
    shifted = replace(call, inputs=tuple(lifted))
    if call.op in _SHIFTED:
        shifted = _SHIFTED[call.op](call, shifted)
    elif call.op in _AXIS:
        default = 0 if call.op in ("Split", "Gather") else 1 if call.opset < 13 else -1
        axis = axis_of(call.integer("axis", default), call.tensor().rank)
        shifted = replace(shifted, attributes={**call.attributes, "axis": axis + 1})
    made = rule(shifted)
    results = made if isinstance(made, tuple) else (made,)
    return tuple(
        _lowered(call, y, y.sizes, f"lowered{i or ''}") if isinstance(y, Tensor) else y
        for i, y in enumerate(results)
    )


def _transpose(call: Call, shifted: Call) -> Call:
    order = call.integers("perm", range(call.tensor().rank)[::-1])
    return replace(shifted, attributes={"perm": (0, *(a + 1 for a in order))})


def _reduce(call: Call, shifted: Call) -> Call:
    rank = call.tensor().rank
    axes = axes_of(call, call.optional_array(1), rank)
    if not axes and call.integer("noop_with_empty_axes", 0):
        return shifted
    attributes = {**call.attributes, "axes": tuple(a + 1 for a in axes or range(rank))}
    return replace(shifted, attributes=attributes, inputs=shifted.inputs[:1])


def _slice(call: Call, shifted: Call) -> Call:
    rank = call.tensor().rank
    if call.opset < 10:
        axes = call.integers("axes", range(len(call.integers("starts"))))
        moved = tuple(axis_of(a, rank) + 1 for a in axes)
        return replace(shifted, attributes={**call.attributes, "axes": moved})
    starts = call.array(1)
    axes = tuple(call.array(3).tolist()) if call.has(3) else tuple(range(starts.size))
    inputs = [*shifted.inputs, *(None,) * (5 - len(shifted.inputs))]
    inputs[3] = Known.of(np.array([axis_of(a, rank) + 1 for a in axes], np.int64))
    return replace(shifted, inputs=tuple(inputs))


def _same(call: Call, shifted: Call) -> Call:
    return shifted


_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
_SHIFTED: dict[str, Callable[[Call, Call], Call]] = {
    "Transpose": _transpose, "Slice": _slice, "MatMul": _same,
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCTIONS), _reduce),
}  # fmt: skip
