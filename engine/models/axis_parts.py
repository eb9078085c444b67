"""What each axis of each tensor stands for, followed from the input to the logits.

An axis is a row of parts: rows and columns of the picture, or factors of them where it was cut
into windows, and whatever else, which counts as channels. What an operator leaves of rows and
columns follows from its attributes and from shapes; one that is not known leaves nothing.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.types import F4

Shape = tuple[int, ...]
ROWS, COLUMNS, CHANNELS, TOKENS = "h", "w", "c", "t"
SHIFTED = "x"  # positions that are no longer in order


@dataclass(frozen=True)
class Part:
    """A factor of an axis. `outer` is the product of the factors of its kind further out.

    Tokens are the positions `inside`, in their order, with others `before` and after them.
    """

    kind: str
    size: int
    outer: int = 1
    before: int = 0
    inside: tuple[Part, ...] = ()


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]  # the first is what the batch is multiplied by


@dataclass(frozen=True)
class _Tensor:
    shape: Shape  # for a batch of one image
    axes: Axes
    value: F4 | None = None  # of a parameter


def follow_axes(
    graph: Graph, images: str, sizes: Shape, shapes: Mapping[str, Shape], values: Mapping[str, F4]
) -> dict[str, Axes]:
    """Axes of the first output of every operator.

    Parameters
    ----------
    graph
        The network.
    images
        Name of the variable that takes (N,C,H,W).
    sizes
        (C,H,W) of it.
    shapes
        Of every operator's first output, for a batch of one image.
    values
        Of the other variables.
    """
    found: list[_Tensor] = []
    for node in graph.nodes:
        if node.op != VARIABLE:
            inputs = [found[source] for source, _ in node.inputs]
            shape = shapes.get(node.name, ())
            found.append(_Tensor(shape, _through(node, inputs, shape)))
        elif node.name == images:
            found.append(_Tensor((1, *sizes), _picture((1, *sizes))))
        else:
            value = values.get(node.name)
            shape = () if value is None else value.shape
            found.append(_Tensor(shape, _without_grid(shape), value))
    numbered = zip(graph.nodes, found, strict=True)
    return {node.name: tensor.axes for node, tensor in numbered if node.op != VARIABLE}


def has_grid(axis: Iterable[Part]) -> bool:
    """Whether there are rows or columns in it."""
    return any(part.kind != CHANNELS for part in axis)


def is_grid(axis: Iterable[Part]) -> bool:
    """Whether there are both rows and columns in it, as in tokens."""
    kinds = {part.kind for part in axis}
    return TOKENS in kinds or {ROWS, COLUMNS} <= kinds


def merged(parts: Iterable[Part]) -> Axis:
    """Join neighbours that one part can stand for."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is None or last.kind != part.kind or part.kind == TOKENS:
            joined.append(part)
        elif part.kind == CHANNELS or part.outer == last.outer * last.size:
            joined[-1] = replace(last, size=last.size * part.size)
        else:
            joined.append(part)
    return tuple(joined)


def _part(kind: str, size: int) -> Axis:
    return (Part(kind, size),) if size > 1 else ()


def _without_grid(shape: Shape) -> Axes:
    return tuple(_part(CHANNELS, n) for n in shape)


def _picture(shape: Shape) -> Axes:
    _, channels, height, width = shape
    return (), _part(CHANNELS, channels), _part(ROWS, height), _part(COLUMNS, width)


def _through(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    rule = _RULES.get(node.op, _alike)
    try:
        axes = rule(node, inputs, shape)
    except (IndexError, ValueError):  # not as the rule expects it
        axes = _without_grid(shape)
    fits = [prod(part.size for part in axis) for axis in axes] == [*shape]
    return axes if fits else _without_grid(shape)


def _alike(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """Element by element, with broadcasting: of each axis what knows most."""
    of_rank = [t for t in inputs if len(t.shape) == len(shape)]
    if not any(t.shape == shape for t in of_rank) and node.op not in _BROADCAST:
        return _without_grid(shape)
    return tuple(
        _best([t.axes[i] for t in of_rank if t.shape[i] == n], n) for i, n in enumerate(shape)
    )


def _best(axes: Sequence[Axis], size: int) -> Axis:
    in_order = (a for a in axes if has_grid(a) and all(part.kind != SHIFTED for part in a))
    return next(in_order, None) or next(filter(has_grid, axes), _part(CHANNELS, size))


def _windows(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """Convolution and whatever else makes pictures of pictures."""
    x = inputs[0]
    if len(shape) != 4:
        return _without_grid(shape)
    if not any(map(has_grid, x.axes)):
        lost = shape[0] == 1 and min(shape[2:]) > 1  # on the way, by an operator that is not known
        return _picture(shape) if lost else _without_grid(shape)
    sides = zip(x.axes[2:], x.shape[2:], shape[2:], (ROWS, COLUMNS), strict=True)
    return x.axes[0], _part(CHANNELS, shape[1]), *(_resized(*side) for side in sides)


def _resized(axis: Axis, old: int, new: int, kind: str = CHANNELS) -> Axis:
    """Rows or columns remain what they are when there are more or fewer of them."""
    if old == new:
        return axis
    if not axis:
        return _part(kind, new)
    single = merged(axis)
    if len(single) == 1 and single[0].kind != TOKENS and single[0].outer == 1:
        return _part(single[0].kind, new)
    return _part(SHIFTED if has_grid(axis) else CHANNELS, new)


def _padded(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    x = inputs[0]
    return tuple(map(_resized, x.axes, x.shape, shape))


def _transposed(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    order = _integers(node, "axes") or tuple(range(len(shape)))[::-1]
    return tuple(inputs[0].axes[i] for i in order)


def _swapped(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    axes = [*inputs[0].axes]
    first, second = (int(node.attrs.get(name, "0")) for name in ("dim1", "dim2"))
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def _reshaped(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """Parts keep their order; where an axis ends inside of one it is divided."""
    left = [part for axis in inputs[0].axes for part in axis]
    axes = []
    for size in shape:
        axis: list[Part] = []
        while size > 1:
            part = left.pop(0)
            if size % part.size == 0:
                axis.append(part)
                size //= part.size
            elif part.size % size == 0 and part.kind != TOKENS:
                axis.append(replace(part, size=size))
                left.insert(0, replace(part, size=part.size // size, outer=part.outer * size))
                size = 1
            else:
                raise ValueError
        axes.append(merged(axis))
    return tuple(axes)


def _dense(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """A matrix along the last axis makes channels; along rows or columns alone others of them."""
    x = inputs[0]
    if len(x.shape) != len(shape) or node.attrs.get("flatten", "True") in ("True", "1"):
        return x.axes[0], _part(CHANNELS, shape[1])
    last = x.axes[-1]
    single = len(merged(last)) == 1 and not is_grid(last)
    made = _resized(last, x.shape[-1], shape[-1]) if single else _part(CHANNELS, shape[-1])
    return *x.axes[:-1], made


def _product(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """Of two matrices for each of the first axis."""
    left, right = (t.axes for t in inputs)
    across = [node.attrs.get(name) in ("True", "1") for name in ("transpose_a", "transpose_b")]
    return (
        _best([left[0], right[0]], shape[0]),
        left[2 if across[0] else 1],
        right[1 if across[1] else 2],
    )


def _reduced(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    x = inputs[0]
    gone = {axis % len(x.shape) for axis in _integers(node, "axis")}
    if node.attrs.get("exclude", "False") in ("True", "1"):
        gone = set(range(len(x.shape))) - gone
    kept = node.attrs.get("keepdims", "False") in ("True", "1")
    axes = [() if i in gone else axis for i, axis in enumerate(x.axes) if kept or i not in gone]
    return tuple(axes)


def _joined(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """Beside a single grid of tokens others are no part of it; rows may be padded."""
    name = "axis" if node.op == "_npi_concatenate" else "dim"
    along = int(node.attrs.get(name, "1" if name == "dim" else "0")) % len(shape)
    axes = [_best([t.axes[i] for t in inputs if t.shape[i] == n], n) for i, n in enumerate(shape)]
    lengths = [t.shape[along] for t in inputs]
    with_grid = [i for i, t in enumerate(inputs) if has_grid(t.axes[along])]
    axes[along] = _part(SHIFTED if with_grid else CHANNELS, shape[along])
    if len(with_grid) == 1:
        (at,) = with_grid
        axis, before = inputs[at].axes[along], sum(lengths[:at])
        if is_grid(axis) or merged(axis) != _part(axis[0].kind, lengths[at]):
            axes[along] = _tokens(axis, before, shape[along])
        else:
            axes[along] = _resized(axis, lengths[at], shape[along])
    return tuple(axes)


def _tokens(axis: Axis, before: int, size: int) -> Axis:
    """An axis of which `axis` is a piece."""
    part = axis[0]
    if part.kind == TOKENS and len(axis) == 1:
        return (replace(part, size=size, before=before + part.before),)
    return (Part(TOKENS, size, before=before, inside=axis),)


def _stacked(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    axes = [*inputs[0].axes]
    along = int(node.attrs.get("axis", "0")) % len(shape)
    axes.insert(along, _part(CHANNELS, shape[along]))
    return tuple(axes)


def _sliced(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """slice_axis, slice, SliceChannel's first and slice_like's output."""
    x = inputs[0]
    cuts = [slice(0, n, 1) for n in x.shape]
    if node.op == "slice":
        bounds = (_places(node, name) for name in ("begin", "end", "step"))
        for i, bound in enumerate(zip(*bounds, strict=False)):
            cuts[i] = slice(*slice(*bound).indices(x.shape[i]))
    elif node.op == "slice_axis":
        axis = int(node.attrs["axis"]) % len(x.shape)
        begin, end = (_places(node, name)[0] for name in ("begin", "end"))
        cuts[axis] = slice(*slice(begin, end, 1).indices(x.shape[axis]))
    elif len(shape) < len(x.shape):  # SliceChannel takes one of an axis, and drops the axis
        axis = int(node.attrs.get("axis", "1")) % len(x.shape)
        return *x.axes[:axis], *x.axes[axis + 1 :]
    else:
        cuts = [slice(0, n, 1) for n in shape]
    return tuple(map(_piece, x.axes, x.shape, cuts))


def _piece(axis: Axis, size: int, cut: slice) -> Axis:
    taken = range(size)[cut]
    part = axis[0] if axis else None
    if part is None or part.kind != TOKENS or taken == range(size):
        return _resized(axis, size, len(taken))
    stop = part.before + prod(p.size for p in part.inside)
    if taken.step != 1 or taken.start > part.before or taken.stop < stop:
        inside = any(part.before <= i < stop for i in taken)
        return _part(SHIFTED if inside else CHANNELS, len(taken))
    if len(taken) == stop - part.before:
        return part.inside
    return (replace(part, size=len(taken), before=part.before - taken.start),)


def _taken(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    """In order: all of it, or an enlargement; every n-th, as windows are cut out; else turned."""
    x, index = inputs
    along = int(node.attrs.get("axis", "0")) % len(x.shape)
    axes, size = [*x.axes], x.shape[along]
    places = np.array([0, -1]) if index.value is None else index.value.reshape(-1).astype(int)
    steps = np.diff(places)
    if len(places) == size and (steps == 1).all():
        return tuple(axes)
    parts = merged(axes[along])
    apart = _apart(places) if len(places) == size and len(parts) == 1 else 0
    if apart and parts[0].kind != TOKENS:
        inner = replace(parts[0], size=apart, outer=parts[0].outer * (size // apart))
        axes[along] = (inner, replace(parts[0], size=size // apart))
    elif (steps >= 0).all() and len(places) != size:
        axes[along] = _resized(axes[along], size, shape[along])
    else:
        axes[along] = _part(SHIFTED if has_grid(axes[along]) else CHANNELS, shape[along])
    return tuple(axes)


def _apart(places: np.ndarray[Any, Any]) -> int:
    """n where every n-th place is taken from the first on, then from the second on, ...; or 0."""
    size = len(places)
    apart = int(places[1] - places[0]) if size > 1 else 0
    if apart < 2 or size % apart:
        return 0
    return apart if (places == np.arange(size).reshape(-1, apart).T.reshape(-1)).all() else 0


def _reversed(node: Node, inputs: Sequence[_Tensor], shape: Shape) -> Axes:
    turned = _integers(node, "axis")
    return tuple(
        _part(SHIFTED if has_grid(axis) else CHANNELS, n) if i in turned else axis
        for i, (axis, n) in enumerate(zip(inputs[0].axes, shape, strict=True))
    )


def _integers(node: Node, name: str) -> tuple[int, ...]:
    value: Any = literal_eval(node.attrs.get(name, "()")) or ()
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)


def _places(node: Node, name: str) -> tuple[Any, ...]:
    value: Any = literal_eval(node.attrs.get(name, "()"))
    return tuple(value) if isinstance(value, tuple | list) else (value,)


_Rule = Callable[[Node, Sequence[_Tensor], Shape], Axes]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        ("Convolution", "Deconvolution", "Pooling", "UpSampling", "depth_to_space",
         "space_to_depth", "_contrib_AdaptiveAvgPooling2D", "_contrib_BilinearResize2D"), _windows,
    ),
    **dict.fromkeys(("Reshape", "Flatten", "squeeze", "expand_dims"), _reshaped),
    **dict.fromkeys(("sum", "mean", "max", "min", "prod", "nansum", "norm"), _reduced),
    **dict.fromkeys(("slice", "slice_axis", "SliceChannel", "slice_like"), _sliced),
    **dict.fromkeys(("Concat", "_npi_concatenate"), _joined),
    **dict.fromkeys(("Pad", "broadcast_to", "broadcast_axis", "broadcast_like", "repeat"), _padded),
    "transpose": _transposed, "SwapAxis": _swapped, "FullyConnected": _dense,
    "batch_dot": _product, "stack": _stacked, "take": _taken, "reverse": _reversed,
}  # fmt: skip
_BROADCAST = frozenset(
    f"broadcast_{kind}"
    for kind in ("add", "sub", "mul", "div", "power", "maximum", "minimum", "hypot", "equal",
                 "not_equal", "greater", "greater_equal", "lesser", "lesser_equal")
)  # fmt: skip
