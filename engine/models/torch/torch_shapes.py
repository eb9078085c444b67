"""What moves, repeats and picks numbers, as MXNet 1.9.1 defines it, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shardcam.engine.models.symbol_rules import reshaped
from shardcam.engine.models.torch.torch_windows import constant

Axes = tuple[int, ...]
Places = tuple[int | None, ...]


def concatenated(axis: str, default: int) -> Callable[..., Tensor]:
    """The operator that calls its axis so, and takes `default` without it."""
    return lambda *xs, **given: torch.cat(xs, given.get(axis, default))


def split(
    x: Tensor, *, num_outputs: int, axis: int = 1, squeeze_axis: bool = False
) -> tuple[Tensor, ...]:
    """Even parts of an axis."""
    parts = x.chunk(num_outputs, axis)
    return tuple(part.squeeze(axis) for part in parts) if squeeze_axis else parts


def reshape(x: Tensor, **attributes: Any) -> Tensor:
    """By MXNet's codes 0, -1, -2, -3 and -4, or by the older `target_shape`."""
    return x.reshape(reshaped(tuple(x.shape), **attributes))


def transpose(x: Tensor, *, axes: Axes = ()) -> Tensor:
    """Axes in this order, by default the last first."""
    return x.permute(axes or tuple(range(x.ndim))[::-1])


def squeeze(x: Tensor, *, axis: Axes) -> Tensor:
    """Without some axes of length one."""
    return x.squeeze(axis)


def slice_(x: Tensor, *, begin: Places, end: Places, step: Places = ()) -> Tensor:
    """Parts of the first axes; steps may go back."""
    steps = step or (None,) * len(begin)
    for axis, part in enumerate(map(slice, begin, end, steps)):
        places = range(x.shape[axis])[part]
        if places.step < 0:
            x = x.index_select(axis, constant((*places,), x.device))
        elif places != range(x.shape[axis]):
            x = x[(slice(None),) * axis + (part,)]
    return x


def slice_axis(x: Tensor, *, axis: int, begin: int, end: int | None) -> Tensor:
    """A part of one axis."""
    places = range(x.shape[axis])[begin:end]
    return x.narrow(axis, places.start, len(places))


def slice_like(x: Tensor, like: Tensor, *, axes: Axes = ()) -> Tensor:
    """As many of the first of each axis, or of some, as another has."""
    for axis in axes or range(x.ndim):
        x = x.narrow(axis, 0, like.shape[axis])
    return x


def broadcast_axis(x: Tensor, *, axis: Axes, size: Axes) -> Tensor:
    """Axes of length one, repeated."""
    shape = list(x.shape)
    for a, n in zip(axis, size, strict=True):
        shape[a] = n
    return x.expand(shape)


def broadcast_to(x: Tensor, *, shape: Axes) -> Tensor:
    """To a shape; 0 leaves an axis as it is."""
    return x.expand([n or have for n, have in zip(shape, x.shape, strict=True)])


def depth_to_space(x: Tensor, *, block_size: int) -> Tensor:
    """Channels become pixels; neighbours are a whole group of channels apart."""
    n, c, h, w = x.shape
    b = block_size
    blocks = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(x: Tensor, *, block_size: int) -> Tensor:
    """The inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    b = block_size
    blocks = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b**2, h // b, w // b)


def take(x: Tensor, places: Tensor, *, axis: int = 0, mode: str = "clip") -> Tensor:
    """Rows of an axis by their numbers, which are of any shape."""
    axis, length = axis % x.ndim, x.shape[axis]
    numbers = places.long()
    numbers = numbers.clamp(0, length - 1) if mode == "clip" else numbers % length
    rows = x.index_select(axis, numbers.flatten())
    return rows.unflatten(axis, numbers.shape) if numbers.ndim != 1 else rows


def tile(x: Tensor, *, reps: Axes) -> Tensor:
    """Repeated as a whole."""
    return x.tile(reps)


def repeat(x: Tensor, *, repeats: int, axis: int) -> Tensor:
    """Each row of an axis repeated."""
    return x.repeat_interleave(repeats, axis)


SHAPES: dict[str, Callable[..., Any]] = {
    "Concat": concatenated("dim", 1),
    "Flatten": lambda x: x.flatten(1),
    "Reshape": reshape,
    "SliceChannel": split,
    "SwapAxis": lambda x, dim1=0, dim2=0: x.transpose(dim1, dim2),
    "_npi_concatenate": concatenated("axis", 0),
    "broadcast_axis": broadcast_axis,
    "broadcast_like": lambda x, like: x.expand_as(like),
    "broadcast_to": broadcast_to,
    "depth_to_space": depth_to_space,
    "expand_dims": lambda x, axis: x.unsqueeze(axis),
    "repeat": repeat,
    "reverse": lambda x, axis: x.flip(axis),
    "slice": slice_,
    "slice_axis": slice_axis,
    "slice_like": slice_like,
    "space_to_depth": space_to_depth,
    "squeeze": squeeze,
    "stack": lambda *xs, axis=0: torch.stack(xs, axis),
    "take": take,
    "tile": tile,
    "transpose": transpose,
}
