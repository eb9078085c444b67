"""Padding. MXNet pads the last two of four axes only; others are turned or merged into these."""

from __future__ import annotations

from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axes_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Tensor
from shardcam.engine.models.onnx.shapes import reshape, take, transpose

MAX_WRAPPED = 2**20


def pad_op(call: Call) -> Tensor:
    """Pad with a constant, the edge, a reflection, or the other end."""
    x, mode = call.tensor(), call.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise ModelError(f"mode {mode!r} is not supported")
    pads, value = _amounts(call)
    axes = axes_of(call, call.optional_array(3), x.rank) or tuple(range(x.rank))
    if len(pads) != 2 * len(axes):
        raise ModelError(f"{len(pads)} paddings for {len(axes)} axes")
    widths = [(0, 0)] * x.rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        widths[axis] = before, after
    return pad(call, x, widths, mode, value)


def _amounts(call: Call) -> tuple[tuple[int, ...], float]:
    """Pixels before all axes, then after them; and what they are filled with."""
    if call.opset < 11:
        return call.integers("pads"), call.number("value", 0.0)
    filler = call.optional_array(2)
    value = 0.0 if filler is None or not filler.size else float(filler.reshape(-1)[0])
    return tuple(int(n) for n in call.array(1).reshape(-1)), value


def pad(
    call: Call, x: Tensor, widths: list[tuple[int, int]], mode: str, value: float, part: str = ""
) -> Tensor:
    """Pad any axes but the batch; negative widths cut off."""
    if widths[0] != (0, 0):
        raise ModelError("it pads the batch")
    x, widths = _cropped(call, x, widths)
    used = [i for i, pair in enumerate(widths) if pair != (0, 0)]
    if not used:
        return x
    if mode == "reflect" and any(max(widths[i]) >= x.sizes[i - 1] for i in used):
        raise ModelError(f"reflection by {widths} is wider than {x.sizes}")
    if x.rank != 4 or len(used) > 2 or mode == "wrap":
        for i in used:
            x = _along(call, x, i, widths[i], mode, value, "" if i == used[-1] else f"axis{i}")
        return x
    attrs = {"mode": mode} | ({"constant_value": repr(value)} if mode == "constant" else {})
    if 1 not in used:
        flat = tuple(n for pair in widths for n in pair)
        return call.emit("Pad", [x], part, pad_width=flat, **attrs)
    order = (0, *(i for i in (1, 2, 3) if i not in used), *used)
    flat = tuple(n for i in order for n in widths[i])
    moved = transpose(call, x, order, "to_end")
    padded = call.build.emit("Pad", f"{call.name}/pad", [moved], {**attrs, "pad_width": flat})
    return transpose(call, padded, tuple(order.index(i) for i in range(4)), part)


def _cropped(
    call: Call, x: Tensor, widths: list[tuple[int, int]]
) -> tuple[Tensor, list[tuple[int, int]]]:
    for i, (before, after) in enumerate(widths):
        if min(before, after) < 0:
            begin, end = max(-before, 0), x.sizes[i - 1] + min(after, 0)
            if begin >= end:
                raise ModelError("nothing is left of it")
            x = call.emit("slice_axis", [x], f"cut{i}", axis=i, begin=begin, end=end)
    return x, [(max(before, 0), max(after, 0)) for before, after in widths]


def _along(
    call: Call, x: Tensor, axis: int, widths: tuple[int, int], mode: str, value: float, part: str
) -> Tensor:
    """Pad one axis of a tensor of any rank."""
    before, after = widths
    length = x.sizes[axis - 1]
    if mode == "wrap":
        if length + before + after > MAX_WRAPPED:
            raise ModelError(f"padding of {widths} is too large")
        return take(call, x, axis, np.arange(-before, length + after) % length, part)
    outer, inner = x.sizes[: axis - 1], x.sizes[axis:]
    merged = reshape(call, x, x.multiple, (prod(outer), length, prod(inner)), f"merge{axis}")
    attrs = {"mode": mode} | ({"constant_value": repr(value)} if mode == "constant" else {})
    padded = call.emit("Pad", [merged], part, pad_width=(0, 0, 0, 0, before, after, 0, 0), **attrs)
    sizes = (*outer, length + before + after, *inner)
    return reshape(call, padded, x.multiple, sizes, f"split{axis}")
