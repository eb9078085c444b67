"""How ONNX names axes, slices and shapes: used for constants and for images alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Array, Shape

Operands = Sequence[Array | None]


def axis_of(value: int, rank: int) -> int:
    """One axis, counted from the front."""
    if not -rank <= value < rank:
        raise ModelError(f"axis {value} is out of range for rank {rank}")
    return value % rank


def axes_of(call: Call, given: Array | None, rank: int) -> tuple[int, ...] | None:
    """The axes that an attribute or, in later opsets, an input lists; None if neither does."""
    if given is not None:
        listed = tuple(int(a) for a in given.reshape(-1))
    elif "axes" in call.attributes:
        listed = call.integers("axes")
    else:
        return None
    axes = tuple(axis_of(a, rank) for a in listed)
    if len(set(axes)) != len(axes):
        raise ModelError(f"axes {listed} name one axis twice")
    return axes


def squeezed(call: Call, given: Array | None, shape: Shape) -> Shape:
    """`shape` without axes of length one."""
    axes = axes_of(call, given, len(shape))
    if axes is None:
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
    if any(shape[a] != 1 for a in axes):
        raise ModelError(f"axes {axes} of {shape} are not all of length 1")
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def unsqueezed(call: Call, given: Array | None, shape: Shape) -> Shape:
    """`shape` with axes of length one put in."""
    count = given.size if given is not None else len(call.integers("axes"))
    rank = len(shape) + count
    axes = axes_of(call, given, rank) or ()
    rest = iter(shape)
    return tuple(1 if i in axes else next(rest) for i in range(rank))


def reshaped(call: Call, target: Array, shape: Shape) -> Shape:
    """The shape that Reshape makes of `shape`: 0 copies an axis, -1 takes what is left."""
    keep_zero = call.integer("allowzero", 0)
    wanted = [int(n) for n in target.reshape(-1)]
    for i, n in enumerate(wanted):
        if n == 0 and not keep_zero:
            if i >= len(shape):
                raise ModelError(f"shape {wanted} copies an axis that {shape} does not have")
            wanted[i] = shape[i]
    return filled(wanted, prod(shape))


def filled(wanted: Sequence[int], count: int) -> Shape:
    """Replace the one -1 of a shape, so that it holds `count` numbers."""
    known = prod(n for n in wanted if n != -1)
    if any(n < -1 for n in wanted) or list(wanted).count(-1) > 1:
        raise ModelError(f"shape {list(wanted)} is impossible")
    shape = tuple(count // max(known, 1) if n == -1 else n for n in wanted)
    if prod(shape) != count:
        raise ModelError(f"{count} numbers do not fit the shape {list(wanted)}")
    return shape


def slices_of(call: Call, operands: Operands, shape: Shape) -> tuple[slice, ...]:
    """What Slice takes of each axis, as Python slices with definite ends.

    A slice to the front ends at None where it takes the first element too.
    """
    if call.opset < 10:
        starts, ends = call.integers("starts"), call.integers("ends")
        axes, steps = call.integers("axes", range(len(starts))), (1,) * len(starts)
    else:
        listed = [_integers(operands, i) for i in range(1, 5)]
        starts, ends = listed[0] or (), listed[1] or ()
        axes = tuple(range(len(starts))) if listed[2] is None else listed[2]
        steps = (1,) * len(starts) if listed[3] is None else listed[3]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError("its starts, ends, axes and steps differ in length")
    axes = tuple(axis_of(axis, len(shape)) for axis in axes)
    if len(set(axes)) != len(axes):
        raise ModelError(f"axes {axes} name one axis twice")
    result = [slice(0, n, 1) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, step = slice(_reach(start), _reach(end), step).indices(shape[axis])
        result[axis] = slice(first, None if last < 0 else last, step)
    return tuple(result)


def pieces_of(call: Call, operands: Operands, length: int) -> tuple[int, ...]:
    """The lengths that Split cuts an axis of `length` into."""
    if call.opset < 13 and "split" in call.attributes:
        pieces = call.integers("split")
    elif len(operands) > 1 and operands[1] is not None:
        pieces = tuple(int(n) for n in operands[1])
    else:
        count = call.integer("num_outputs", call.outputs)
        if count != call.outputs:
            raise ModelError(f"it has {call.outputs} outputs, not {count}")
        size = -(-length // max(count, 1))
        pieces = (*(size,) * (count - 1), length - size * (count - 1))
        if call.opset < 18 and size * count != length:
            raise ModelError(f"{length} cannot be split into {count} equal pieces")
    if min(pieces, default=0) < 1 or sum(pieces) != length or len(pieces) != call.outputs:
        raise ModelError(f"pieces {pieces} do not make {length}")
    return pieces


def _integers(operands: Operands, index: int) -> tuple[int, ...] | None:
    array = operands[index] if index < len(operands) else None
    return None if array is None else tuple(int(n) for n in array.reshape(-1))


def _reach(n: int) -> int:
    """ONNX means "to the end" by numbers that do not fit a machine word."""
    return max(min(n, 2**62), -(2**62))
