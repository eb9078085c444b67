"""Operators that move numbers and compute none."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import (
    axis_of,
    pieces_of,
    reshaped,
    slices_of,
    squeezed,
    unsqueezed,
)  # fmt: skip
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.fold import FLOATS
from shardcam.engine.models.onnx.onnx_graph import BATCHES, Array, Known, Shape, Tensor

BLOCK = 16  # channels that oneDNN keeps together


def view(call: Call, x: Tensor, shapes: tuple[Shape, Shape], part: str = "") -> Tensor:
    """`x` in another shape, given for each of `BATCHES`."""
    first, second = shapes
    multiple, left = divmod(first[0], BATCHES[0]) if first else (0, 1)
    if left or multiple < 1 or second != (multiple * BATCHES[1], *first[1:]):
        raise ModelError(f"shape {first} of {x.shape(BATCHES[0])} would mix the images of a batch")
    return reshape(call, x, multiple, first[1:], part)


def reshape(call: Call, x: Tensor, multiple: int, sizes: Shape, part: str = "") -> Tensor:
    """`x` as ``(multiple * batch, *sizes)``; a reshape of a reshape becomes one."""
    if x.multiple * prod(x.sizes) != multiple * prod(sizes):
        raise ModelError(f"{x.sizes} does not fit the shape {sizes}")
    if (x.multiple, x.sizes) == (multiple, sizes):
        return x
    for op in ("Reshape", "Flatten"):
        source = call.build.source(x, op)
        x = source[1] if source else x
    if (x.multiple, x.sizes) == (multiple, sizes):
        return x
    if multiple == x.multiple and len(sizes) == 1:
        return call.emit("Flatten", [x], part)
    batch = 0 if multiple == x.multiple else -1  # 0 copies the axis
    return call.emit("Reshape", [x], part, shape=(batch, *sizes))


def vector(call: Call, x: Tensor, part: str) -> Tensor:
    """(N,1,1,C) as (N,C): what has no spatial extent should not look as if it had."""
    return reshape(call, x, x.multiple, x.sizes[-1:], part) if prod(x.sizes[:-1]) == 1 else x


def transpose(call: Call, x: Tensor, order: tuple[int, ...], part: str = "") -> Tensor:
    """`x` with its axes in another order; two transpositions in a row become one, or none."""
    if sorted(order) != list(range(x.rank)):
        raise ModelError(f"{order} is not a permutation of {x.rank} axes")
    if order[0] != 0:
        raise ModelError("it moves the batch axis")
    source = call.build.source(x, "transpose")
    if source:
        node, x = source
        before = ast.literal_eval(node.attrs["axes"])
        order = tuple(before[a] for a in order)
    long = [a for a in order[1:] if x.sizes[a - 1] > 1]
    if long == sorted(long):  # it moves axes of length one, or nothing
        return reshape(call, x, x.multiple, tuple(x.sizes[a - 1] for a in order[1:]), part)
    return call.emit("transpose", [x], part, axes=order)


def same(call: Call) -> Tensor:
    """Identity, and Dropout at inference."""
    call.ignore("ratio", "seed")
    if call.op == "Dropout" and call.has(2) and call.array(2).any():
        raise ModelError("it is in training mode")
    return call.tensor()


def cast(call: Call) -> Tensor:
    """From one kind of float to another: all of them are float32 here."""
    call.ignore("saturate", "round_mode")
    if call.integer("to") not in FLOATS:
        raise ModelError("activations are only cast to floating point")
    return call.tensor()


def cast_like(call: Call) -> Tensor:
    """As `cast`, to the kind of another value."""
    call.ignore("saturate", "round_mode")
    if isinstance(call.value(1), Known) and call.array(1).dtype.kind != "f":
        raise ModelError("activations are only cast to floating point")
    return call.tensor()


def reshape_op(call: Call) -> Tensor:
    """Reshape. A shape written for the file's own batch size becomes one for any."""
    x, target = call.tensor(), call.known(1)
    batch = call.fixed_batch
    if batch is not None and not target.varies:
        rows, *sizes = reshaped(call, target.constant, x.shape(batch)) or (1,)
        if rows % batch:
            raise ModelError("it would mix the images of a batch")
        return reshape(call, x, rows // batch, tuple(sizes))
    first, second = (
        reshaped(call, value, x.shape(at)) for value, at in zip(target.values, BATCHES, strict=True)
    )
    return view(call, x, (first, second))


def flatten(call: Call) -> Tensor:
    x = call.tensor()
    axis = call.integer("axis", 1)
    axis = axis % (x.rank + 1) if axis < 0 else axis
    if not 0 < axis <= x.rank:
        raise ModelError("it would mix the images of a batch")
    return reshape(call, x, x.multiple * prod(x.sizes[: axis - 1]), (prod(x.sizes[axis - 1 :]),))


def squeeze(call: Call) -> Tensor:
    x, given = call.tensor(), call.optional_array(1)
    return _each_batch(call, x, lambda shape: squeezed(call, given, shape))


def unsqueeze(call: Call) -> Tensor:
    """Put in axes of length one."""
    x, given = call.tensor(), call.optional_array(1)
    return _each_batch(call, x, lambda shape: unsqueezed(call, given, shape))


def _each_batch(call: Call, x: Tensor, function: Callable[[Shape], Shape]) -> Tensor:
    first, second = (function(x.shape(batch)) for batch in BATCHES)
    return view(call, x, (first, second))


def transpose_op(call: Call) -> Tensor:
    x = call.tensor()
    return transpose(call, x, call.integers("perm", range(x.rank)[::-1]))


def concat(call: Call) -> Tensor:
    """Concatenate along any axis but the batch."""
    values = [call.value(i) for i in range(len(call.inputs))]
    like = next(value for value in values if isinstance(value, Tensor))
    axis = _not_batch(axis_of(call.integer("axis"), like.rank))
    inputs = [
        call.spread(call.rows(value), like) if isinstance(value, Known) else call.tensor(i)
        for i, value in enumerate(values)
    ]
    return inputs[0] if len(inputs) == 1 else joined(call, inputs, axis)


def joined(call: Call, inputs: Sequence[Tensor], axis: int, part: str = "") -> Tensor:
    """Two or more tensors side by side."""
    if axis != 1 or all(x.sizes[0] % BLOCK == 0 for x in inputs):
        return call.emit("Concat", inputs, part, dim=axis, num_args=len(inputs))
    # The backward pass of a convolution gives its gradient in blocks of channels. Concat
    # runs in oneDNN, which cannot cut a block ("could not construct a sub-memory").
    return call.emit("_npi_concatenate", inputs, part, axis=axis, num_args=len(inputs))


def slice_op(call: Call) -> Tensor:
    """Slice, with steps of either direction."""
    x = call.tensor()
    operands = [None, *(call.optional_array(i) for i in range(1, len(call.inputs)))]
    first, second = (slices_of(call, operands, x.shape(batch)) for batch in BATCHES)
    if first[0] != slice(0, x.shape(BATCHES[0])[0], 1) or second[0].stop != x.shape(BATCHES[1])[0]:
        raise ModelError("it takes a part of the batch")
    cut = [i for i, n in enumerate(x.sizes, 1) if first[i] != slice(0, n, 1)]
    if not cut:
        return x
    if any(len(range(x.sizes[i - 1])[first[i]]) == 0 for i in cut):
        raise ModelError("nothing is left of it")
    if len(cut) == 1 and first[cut[0]].step == 1:
        return take_range(call, x, cut[0], first[cut[0]].start, first[cut[0]].stop)
    parts = [slice(None, None, 1) if i not in cut else s for i, s in enumerate(first)]
    begin, end = (tuple(getattr(s, key) for s in parts) for key in ("start", "stop"))
    return call.emit("slice", [x], begin=begin, end=end, step=tuple(s.step for s in parts))


def split(call: Call) -> tuple[Tensor, ...]:
    """Split along any axis but the batch."""
    x = call.tensor()
    axis = _not_batch(axis_of(call.integer("axis", 0), x.rank))
    operands = [None, *(call.optional_array(i) for i in range(1, len(call.inputs)))]
    ends = np.cumsum(pieces_of(call, operands, x.sizes[axis - 1])).tolist()
    begins = [0, *ends[:-1]]
    return tuple(
        take_range(call, x, axis, begin, end, part=str(i) if i else "")
        for i, (begin, end) in enumerate(zip(begins, ends, strict=True))
    )


def take_range(call: Call, x: Tensor, axis: int, begin: int, end: int, part: str = "") -> Tensor:
    return call.emit("slice_axis", [x], part, axis=axis, begin=begin, end=end)


def gather(call: Call) -> Tensor:
    """Rows of constant numbers, along any axis but the batch."""
    x, axis = call.tensor(), axis_of(call.integer("axis", 0), call.tensor().rank)
    if axis == 0:
        return _all_rows(call, x)
    index = call.array(1)
    length = x.sizes[axis - 1]
    if index.size == 0 or index.min() < -length or index.max() >= length:
        raise ModelError(f"an index is out of range of {length}")
    rows = take(call, x, axis, index.reshape(-1) % length, part="" if index.ndim == 1 else "take")
    sizes = (*x.sizes[: axis - 1], *index.shape, *x.sizes[axis:])
    return reshape(call, rows, x.multiple, sizes)


def _all_rows(call: Call, x: Tensor) -> Tensor:
    """Every row of the batch once and in order: so PyTorch writes a view of strides."""
    first, second = call.known(1).values
    for index, batch in zip((first, second), BATCHES, strict=True):
        if not np.array_equal(index.reshape(-1), np.arange(x.multiple * batch)):
            raise ModelError("it takes a part of the batch")
    return view(call, x, ((*first.shape, *x.sizes), (*second.shape, *x.sizes)))


def take(call: Call, x: Tensor, axis: int, index: Array, part: str = "") -> Tensor:
    """Rows of constant, valid numbers."""
    indices = call.parameter(f"{part or 'take'}_index", index)
    return call.emit("take", [x, indices], part, axis=axis, mode="clip")


def expand(call: Call) -> Tensor:
    """Broadcast to a constant shape."""
    x, target = call.tensor(), call.known(1)
    first, second = (
        np.broadcast_shapes(x.shape(at), tuple(int(n) for n in value.reshape(-1)))
        for value, at in zip(target.values, BATCHES, strict=True)
    )
    if first[1:] != second[1:] or len(first) != x.rank or first[0] != x.shape(BATCHES[0])[0]:
        raise ModelError("it would mix the images of a batch")
    if first[1:] == x.sizes:
        return x
    sizes = (0 if n == old else n for n, old in zip(first[1:], x.sizes, strict=True))
    return call.emit("broadcast_to", [x], shape=(0, *sizes))


def tile(call: Call) -> Tensor:
    """Repeat along any axes but the batch."""
    x, repeats = call.tensor(), [int(n) for n in call.array(1).reshape(-1)]
    if len(repeats) != x.rank or repeats[0] != 1 or min(repeats) < 1:
        raise ModelError(f"{repeats} repetitions of {x.sizes} for each image are not supported")
    pairs = [*zip(x.sizes, repeats[1:], strict=True)]
    if all(1 in pair for pair in pairs):
        sizes = (0 if count == 1 else count for _, count in pairs)
        return call.emit("broadcast_to", [x], shape=(0, *sizes))
    return call.emit("tile", [x], reps=tuple(repeats))


def depth_to_space(call: Call) -> Tensor:
    """Move channels into blocks of pixels."""
    x, block = call.image(), call.integer("blocksize")
    channels, height, width = x.sizes
    mode = call.text("mode", "DCR")
    if block < 1 or channels % (block * block) or mode not in ("DCR", "CRD"):
        raise ModelError(f"{channels} channels cannot form blocks of {block} in mode {mode!r}")
    depth = channels // block**2
    if mode == "DCR":
        sizes, order = (block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        sizes, order = (depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    x = reshape(call, x, x.multiple, sizes, "split")
    x = transpose(call, x, order, "swap")
    return reshape(call, x, x.multiple, (depth, height * block, width * block))


def _not_batch(axis: int) -> int:
    if axis == 0:
        raise ModelError("it works along the batch axis")
    return axis
