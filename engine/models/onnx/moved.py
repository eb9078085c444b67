"""Tensors whose batch is not the first axis, as exporters of transformers write them.

``qkv.permute(2, 0, 3, 1, 4)`` and ``(T,N,C)`` never become nodes. A `View` says where each of its
axes lies in a tensor that begins with the batch; the operators that follow are done on that one,
until the batch comes first again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import elementwise
from shardcam.engine.models.onnx.axes import (
    axis_of,
    pieces_of,
    reshaped,
    slices_of,
    squeezed,
    unsqueezed,
)  # fmt: skip
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import BATCHES, Known, Shape, Tensor, Value, View
from shardcam.engine.models.onnx.scatter import scattered
from shardcam.engine.models.onnx.shapes import reshape, take, take_range, transpose

MOVES = "it moves the batch axis"
Rule = Callable[[Call], Value | tuple[Value, ...]]


def with_moved_batch(call: Call, rule: Rule) -> tuple[Value, ...] | None:
    """Outputs of a node that moves the batch or reads a `View`; None if it is another node.

    `rule` is the one for tensors.

    Raises
    ------
    ModelError
        It is not known how to do it with the batch first.
    """
    x = call.inputs[0] if call.inputs else None
    if call.op == "Transpose" and isinstance(x, Tensor):
        order = call.integers("perm", range(x.rank)[::-1])
        return (_settled(call, _turned(_view(call, x), order)),) if order[0] != 0 else None
    if not any(isinstance(value, View) for value in call.inputs):
        return None
    if call.op in _RULES and isinstance(x, View):
        made = _RULES[call.op](call, x)
        return tuple(_settled(call, view) for view in (made if isinstance(made, list) else [made]))
    if call.op not in _ALONG:
        raise ModelError("the batch is not the first axis of what it reads")
    return _batch_first(call, rule)


def _view(call: Call, x: Tensor) -> View:
    """The same, with what the batch is multiplied by as an axis of its own."""
    if x.multiple == 1:
        return View(x, tuple((i,) for i in range(x.rank)))
    whole = reshape(call, x, 1, (x.multiple, *x.sizes), "apart")
    return View(whole, ((0, 1), *((i + 1,) for i in range(1, x.rank))))


def _turned(view: View, order: Sequence[int]) -> View:
    if sorted(order) != list(range(view.rank)):
        raise ModelError(f"{tuple(order)} is not a permutation of {view.rank} axes")
    return replace(view, axes=tuple(view.axes[i] for i in order))


def _settled(call: Call, view: View) -> Tensor | View:
    """A tensor again, if the first axis begins with the batch."""
    if view.axes[0][:1] != (0,):
        return view
    used = [i for axis in view.axes for i in axis]
    unused = [i for i in range(view.tensor.rank) if i not in used]  # of length one
    x = transpose(call, view.tensor, (*used, *unused), "batch_first")
    multiple, *sizes = (prod(view.length(i) for i in axis if i) for axis in view.axes)
    return reshape(call, x, multiple, tuple(sizes), "batch_first")


def _transposed(call: Call, view: View) -> View:
    return _turned(view, call.integers("perm", range(view.rank)[::-1]))


def _reshaped(call: Call, view: View) -> View:
    target, batch = call.known(1), call.fixed_batch
    if batch is not None and not target.varies:  # written for the file's own batch size
        return _in_shape(
            call, view, (batch, batch), [reshaped(call, target.constant, view.shape(batch))] * 2
        )
    pairs = zip(target.values, BATCHES, strict=True)
    return _in_shape(call, view, BATCHES, [reshaped(call, v, view.shape(at)) for v, at in pairs])


def _squeezed(call: Call, view: View) -> View:
    given = call.optional_array(1)
    return _in_shape(call, view, BATCHES, [squeezed(call, given, view.shape(n)) for n in BATCHES])


def _unsqueezed(call: Call, view: View) -> View:
    given = call.optional_array(1)
    return _in_shape(call, view, BATCHES, [unsqueezed(call, given, view.shape(n)) for n in BATCHES])


def _in_shape(call: Call, view: View, batches: Shape, shapes: Sequence[Shape]) -> View:
    """Divide and join axes, to a shape given for each of two batch sizes."""
    left = [i for axis in view.axes for i in axis if not i or view.length(i) > 1]
    rest = {i: view.length(i) for i in left if i}
    pieces: dict[int, list[int]] = {i: [] for i in range(view.tensor.rank)}
    axes: list[list[tuple[int, int]]] = []  # of the view: axes of the tensor, pieces of them
    for wanted in zip(*shapes, strict=True):
        axis: list[tuple[int, int]] = []
        while max(wanted) > 1 or (wanted == batches and left[:1] == [0]):
            if not left:
                raise ModelError(MOVES)
            at = left[0]
            lengths = (rest[at], rest[at]) if at else batches
            if any(n % length for n, length in zip(wanted, lengths, strict=True)):
                if not at or wanted[0] != wanted[1] or rest[at] % wanted[0]:
                    raise ModelError(MOVES)
                lengths = wanted
                rest[at] //= wanted[0]
            else:
                left.pop(0)
            axis.append((at, len(pieces[at])))
            pieces[at].append(lengths[0])
            wanted = (wanted[0] // lengths[0], wanted[1] // lengths[1])
        axes.append(axis)
    flat = [(at, i) for at, lengths in pieces.items() for i in range(len(lengths))]
    x = reshape(call, view.tensor, 1, tuple(pieces[at][i] for at, i in flat if at), "divided")
    return View(x, tuple(tuple(flat.index(place) for place in axis) for axis in axes))


def _along(view: View, axis: int) -> int:
    """The tensor's axis that one of the view's is."""
    places = view.axes[axis]
    if len(places) != 1 or places == (0,):
        raise ModelError("it takes a part of the batch")
    return places[0]


def _gathered(call: Call, view: View) -> View:
    axis, index = axis_of(call.integer("axis", 0), view.rank), call.array(1)
    at = _along(view, axis)
    length = view.length(at)
    if index.ndim > 1 or index.size == 0 or index.min() < -length or index.max() >= length:
        raise ModelError(f"an index of {index.shape} does not fit {length}")
    if index.ndim:
        return replace(view, tensor=take(call, view.tensor, at, index % length))
    begin = int(index) % length
    one = take_range(call, view.tensor, at, begin, begin + 1)
    return View(one, (*view.axes[:axis], *view.axes[axis + 1 :]))


def _split(call: Call, view: View) -> list[View]:
    at = _along(view, axis_of(call.integer("axis", 0), view.rank))
    operands = [None, *(call.optional_array(i) for i in range(1, len(call.inputs)))]
    ends = np.cumsum(pieces_of(call, operands, view.length(at))).tolist()
    begins = [0, *ends[:-1]]
    return [
        replace(view, tensor=take_range(call, view.tensor, at, begin, end, part=str(i or "")))
        for i, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]


def _sliced(call: Call, view: View) -> View:
    operands = [None, *(call.optional_array(i) for i in range(1, len(call.inputs)))]
    first, second = (slices_of(call, operands, view.shape(batch)) for batch in BATCHES)
    for axis, (cut, other, size) in enumerate(
        zip(first, second, view.shape(BATCHES[0]), strict=True)
    ):
        if cut == slice(0, size, 1) and other == slice(0, view.shape(BATCHES[1])[axis], 1):
            continue
        if cut != other or cut.step != 1:
            raise ModelError("it takes a part of the batch, or steps")
        x = take_range(call, view.tensor, _along(view, axis), cut.start, cut.stop)
        view = replace(view, tensor=x)
    return view


def _scattered(call: Call, view: View) -> View:
    """Updates along axes before the batch's, as exporters write ``x[:, 1:] = y``."""
    call.must_be("reduction", "none")
    index, updates = call.array(1), call.value(2)
    at = next(i for i, axis in enumerate(view.axes) if 0 in axis)
    own = at - index.shape[-1] + index.ndim - 1  # the batch's axis of the updates
    if view.axes[at] != (0,) or index.shape[-1] > at:
        raise ModelError("it takes a part of the batch")
    x = _first(call, view, at)
    if isinstance(updates, Known):
        first, second = (np.moveaxis(value, own, 0) for value in updates.values)
        new = call.spread(call.rows(Known((first, second))), x)
    elif isinstance(updates, View) and updates.axes[own] == (0,):
        new = _first(call, updates, own)
    else:
        raise ModelError("the batch is not the same axis of all that it reads")
    y = scattered(call, x, new, index.reshape(-1, index.shape[-1]))
    return _turned(_view(call, y), (*range(1, at + 1), 0, *range(at + 1, view.rank)))


def _first(call: Call, view: View, at: int) -> Tensor:
    """With axis `at`, the batch, before the others."""
    turned = _settled(call, _turned(view, (at, *(i for i in range(view.rank) if i != at))))
    assert isinstance(turned, Tensor)
    return turned


_LAST = ("Gemm", "MatMul", "LayerNormalization", "Softmax", "LogSoftmax")  # along the last axis
_ALONG = frozenset({
    *elementwise.RULES, *_LAST, "Concat", "Identity", "Dropout", "Cast", "CastLike",
})  # fmt: skip
_RULES: dict[str, Callable[[Call, View], View | list[View]]] = {
    "Transpose": _transposed, "Reshape": _reshaped, "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed, "Gather": _gathered, "Split": _split, "Slice": _sliced,
    "ScatterND": _scattered,
}  # fmt: skip


def _batch_first(call: Call, rule: Rule) -> tuple[Value, ...]:
    """Do what works along other axes with the batch in front, and move it back."""
    view = next(value for value in call.inputs if isinstance(value, View))
    at = next(i for i, axis in enumerate(view.axes) if 0 in axis)
    order = (at, *(i for i in range(view.rank) if i != at))
    if call.op in _LAST and at == view.rank - 1:
        raise ModelError("it works along the batch axis")
    inputs: list[Value | None] = []
    for value in call.inputs:
        if isinstance(value, View) and value.rank == view.rank and value.axes[at][-1:] == (0,):
            value = _settled(call, _turned(replace(value, axes=_turned_in(value, at)), order))
        elif isinstance(value, Known) and call.op not in _LAST and value.values[0].ndim:
            value = _known(value, order)
        elif not isinstance(value, Known | None):
            raise ModelError("the batch is not the same axis of all that it reads")
        inputs.append(value)
    attributes = dict(call.attributes)
    if "axis" in attributes:
        axis = axis_of(call.integer("axis"), view.rank)
        if axis == at:
            raise ModelError("it works along the batch axis")
        attributes["axis"] = axis + 1 if axis < at else axis
    made = rule(replace(call, inputs=tuple(inputs), attributes=attributes))
    outputs = made if isinstance(made, tuple) else (made,)
    back = tuple(order.index(i) for i in range(view.rank))
    return tuple(
        _settled(call, _turned(_inside_out(_view(call, y)), back)) if isinstance(y, Tensor) else y
        for y in outputs
    )


def _turned_in(view: View, at: int) -> tuple[tuple[int, ...], ...]:
    """Its axes, of which number `at` ends with the batch, with the batch before what it has."""
    return *view.axes[:at], (0, *view.axes[at][:-1]), *view.axes[at + 1 :]


def _inside_out(view: View) -> View:
    """The first axis with the batch behind what it is multiplied by."""
    return replace(view, axes=((*view.axes[0][1:], 0), *view.axes[1:]))


def _known(known: Known, order: Sequence[int]) -> Known:
    """A constant that is broadcast, with its axes in the same order."""
    rank = len(order)
    first, second = (
        value.reshape((1,) * (rank - value.ndim) + value.shape).transpose(order)
        for value in known.values
    )
    return Known((first, second) if known.varies else (first, first))
