"""Operators on constants, in NumPy: what a file computes from weights and shapes alone.

Each function takes the node and its operands at one batch size.  The sizes of all
results are bounded before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import (
    axes_of,
    axis_of,
    pieces_of,
    reshaped,
    slices_of,
    squeezed,
    unsqueezed,
)  # fmt: skip
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import BATCHES, Array, Known, Shape, Tensor

MAX_FOLDED = 2**26  # numbers in one result

Operands = list[Array]
Fold = Callable[[Call, Operands], Array | list[Array]]

DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
FLOATS = (1, 10, 11, 16)  # ONNX's codes; all of them are float32 here


def fold(call: Call) -> tuple[Known, ...] | None:
    """Outputs of a node that reads only constants; None if it is another node.

    Raises
    ------
    ModelError
        The operands do not fit the operator, or the result would be too large.
    """
    if call.op in ("Shape", "Size") and isinstance(call.value(0), Tensor):
        return _shape_of(call, call.tensor())
    if call.op not in FOLDS or any(isinstance(value, Tensor) for value in call.inputs):
        return None
    operands = [value.values if isinstance(value, Known) else None for value in call.inputs]
    same = all(pair is None or pair[0] is pair[1] for pair in operands)
    points = []
    for i in range(1 if same else len(BATCHES)):
        arrays = [None if pair is None else pair[i] for pair in operands]
        points.append(_evaluate(call, arrays))
    return tuple(Known(pair) for pair in zip(points[0], points[-1], strict=True))


def _evaluate(call: Call, arrays: list[Array | None]) -> list[Array]:
    try:
        with np.errstate(all="ignore"):
            result = FOLDS[call.op](call, arrays)  # type: ignore[arg-type]
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise ModelError(f"its constant inputs are not valid: {error}") from error
    return [np.asarray(a) for a in (result if isinstance(result, list) else [result])]


def _shape_of(call: Call, x: Tensor) -> tuple[Known]:
    first, second = (np.array(x.shape(batch), np.int64) for batch in BATCHES)
    if call.op == "Size":
        return (Known((np.array(first.prod()), np.array(second.prod()))),)
    start, end = call.integer("start", 0), call.integer("end", x.rank)
    return (Known((first[start:end], second[start:end])),)


def _bounded(count: int) -> None:
    if count > MAX_FOLDED:
        raise ModelError(f"a constant of {count} numbers is too large")


def _broadcast(function: Callable[..., Array]) -> Fold:
    def run(call: Call, arrays: Operands) -> Array:
        _bounded(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        return function(*arrays)

    return run


def _chain(function: Callable[[Array, Array], Array]) -> Fold:
    def run(call: Call, arrays: Operands) -> Array:
        _bounded(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return run


def _divide(a: Array, b: Array) -> Array:
    """ONNX divides integers towards zero."""
    if a.dtype.kind == "f":
        return a / b
    return np.trunc(a / b).astype(a.dtype)


def _mod(call: Call, arrays: Operands) -> Array:
    a, b = arrays
    return np.fmod(a, b) if call.integer("fmod", 0) else np.mod(a, b)


def _power(a: Array, b: Array) -> Array:
    return np.power(a.astype(np.float64), b).astype(a.dtype)


def _cast(call: Call, arrays: Operands) -> Array:
    call.ignore("saturate", "round_mode")
    code = call.integer("to")
    if code == 16:
        return arrays[0].astype(np.float32)
    if code not in DTYPES:
        raise ModelError(f"data type {code} is not supported")
    return arrays[0].astype(DTYPES[code])


def _cast_like(call: Call, arrays: Operands) -> Array:
    call.ignore("saturate", "round_mode")
    return arrays[0].astype(arrays[1].dtype)


def _constant_of_shape(call: Call, arrays: Operands) -> Array:
    value = call.attributes.get("value", np.zeros(1, np.float32))
    call.ignore("value")
    shape = [int(n) for n in arrays[0]]
    _bounded(prod(shape))
    return np.full(shape, np.asarray(value).reshape(-1)[0])


def _range(call: Call, arrays: Operands) -> Array:
    start, limit, delta = (a.reshape(-1)[0] for a in arrays)
    count = max(ceil((float(limit) - float(start)) / float(delta)), 0) if delta else 0
    _bounded(count)
    values: Array = start + np.arange(count) * delta
    return values.astype(arrays[0].dtype)


def _expand(call: Call, arrays: Operands) -> Array:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(int(n) for n in arrays[1]))
    _bounded(prod(shape))
    return np.broadcast_to(arrays[0], shape)


def _tile(call: Call, arrays: Operands) -> Array:
    repeats = [int(n) for n in arrays[1]]
    _bounded(arrays[0].size * prod(repeats))
    return np.tile(arrays[0], repeats)


def _concat(call: Call, arrays: Operands) -> Array:
    _bounded(sum(a.size for a in arrays))
    return np.concatenate(arrays, axis_of(call.integer("axis"), arrays[0].ndim))


def _gather(call: Call, arrays: Operands) -> Array:
    data, index = arrays
    axis = axis_of(call.integer("axis", 0), data.ndim)
    _bounded(index.size * prod(data.shape[:axis]) * prod(data.shape[axis + 1 :]))
    return np.take(data, index.astype(np.int64), axis)


def _slice(call: Call, arrays: Operands) -> Array:
    return arrays[0][slices_of(call, arrays, arrays[0].shape)]


def _split(call: Call, arrays: Operands) -> list[Array]:
    axis = axis_of(call.integer("axis", 0), arrays[0].ndim)
    pieces = pieces_of(call, arrays, arrays[0].shape[axis])
    return np.split(arrays[0], np.cumsum(pieces)[:-1], axis)


def _to_shape(function: Callable[[Call, Array | None, Shape], Shape]) -> Fold:
    def run(call: Call, arrays: Operands) -> Array:
        given = arrays[1] if len(arrays) > 1 else None
        return arrays[0].reshape(function(call, given, arrays[0].shape))

    return run


def _reshape(call: Call, arrays: Operands) -> Array:
    return arrays[0].reshape(reshaped(call, arrays[1], arrays[0].shape))


def _flatten(call: Call, arrays: Operands) -> Array:
    shape = arrays[0].shape
    axis = call.integer("axis", 1) % (len(shape) + 1)
    return arrays[0].reshape(prod(shape[:axis]), prod(shape[axis:]))


def _transpose(call: Call, arrays: Operands) -> Array:
    rank = arrays[0].ndim
    return arrays[0].transpose(call.integers("perm", range(rank)[::-1]))


def _where(call: Call, arrays: Operands) -> Array:
    _bounded(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
    condition, yes, no = arrays
    return np.where(condition, yes, no)


def _reduce(function: Callable[..., Array]) -> Fold:
    def run(call: Call, arrays: Operands) -> Array:
        given = arrays[1] if len(arrays) > 1 else None
        axes = axes_of(call, given, arrays[0].ndim)
        keep = bool(call.integer("keepdims", 1))
        none_means_none = bool(call.integer("noop_with_empty_axes", 0))
        if none_means_none and not axes:
            return arrays[0]
        reduced = function(arrays[0], axis=axes or None, keepdims=keep)
        return np.asarray(reduced, arrays[0].dtype)

    return run


def _identity(call: Call, arrays: Operands) -> Array:
    return arrays[0]


FOLDS: dict[str, Fold] = {
    "Add": _broadcast(np.add), "Sub": _broadcast(np.subtract), "Mul": _broadcast(np.multiply),
    "Div": _broadcast(_divide), "Pow": _broadcast(_power), "Mod": _mod,
    "Min": _chain(np.minimum), "Max": _chain(np.maximum), "Sum": _chain(np.add),
    "Neg": _broadcast(np.negative), "Abs": _broadcast(np.abs), "Sqrt": _broadcast(np.sqrt),
    "Exp": _broadcast(np.exp), "Log": _broadcast(np.log), "Floor": _broadcast(np.floor),
    "Ceil": _broadcast(np.ceil), "Reciprocal": _broadcast(np.reciprocal),
    "Equal": _broadcast(np.equal), "Greater": _broadcast(np.greater),
    "Less": _broadcast(np.less), "GreaterOrEqual": _broadcast(np.greater_equal),
    "LessOrEqual": _broadcast(np.less_equal), "Not": _broadcast(np.logical_not),
    "And": _broadcast(np.logical_and), "Or": _broadcast(np.logical_or), "Where": _where,
    "Cast": _cast, "CastLike": _cast_like, "Identity": _identity,
    "ConstantOfShape": _constant_of_shape, "Range": _range, "Expand": _expand, "Tile": _tile,
    "Concat": _concat, "Gather": _gather, "Slice": _slice, "Split": _split,
    "Squeeze": _to_shape(squeezed), "Unsqueeze": _to_shape(unsqueezed),
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose,
    "ReduceSum": _reduce(np.sum), "ReduceProd": _reduce(np.prod),
    "ReduceMax": _reduce(np.max), "ReduceMin": _reduce(np.min), "ReduceMean": _reduce(np.mean),
    "Shape": lambda call, arrays: np.array(arrays[0].shape, np.int64)[
        call.integer("start", 0) : call.integer("end", arrays[0].ndim)
    ],
    "Size": lambda call, arrays: np.array(arrays[0].size, np.int64),
}  # fmt: skip
