"""Padding. MXNet pads the last two of four axes only."""

from __future__ import annotations

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axes_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Tensor
from shardcam.engine.models.onnx.shapes import transpose


def pad_op(call: Call) -> Tensor:
    """Pad with a constant, the edge, or a reflection."""
    x, mode = call.tensor(), call.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect"):
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
    """Pad up to two axes of an image, but never the batch."""
    used = [i for i, pair in enumerate(widths) if pair != (0, 0)]
    if not used:
        return x
    if x.rank != 4 or used[0] == 0 or len(used) > 2 or min(min(pair) for pair in widths) < 0:
        raise ModelError(f"padding {widths} is not supported")
    if mode == "reflect" and any(max(widths[i]) >= x.sizes[i - 1] for i in used):
        raise ModelError(f"reflection by {widths} is wider than {x.sizes}")
    attrs = {"mode": mode} | ({"constant_value": repr(value)} if mode == "constant" else {})
    if 1 not in used:
        flat = tuple(n for pair in widths for n in pair)
        return call.emit("Pad", [x], part, pad_width=flat, **attrs)
    order = (0, *(i for i in (1, 2, 3) if i not in used), *used)
    flat = tuple(n for i in order for n in widths[i])
    moved = transpose(call, x, order, "to_end")
    padded = call.build.emit("Pad", f"{call.name}/pad", [moved], {**attrs, "pad_width": flat})
    return transpose(call, padded, tuple(order.index(i) for i in range(4)), part)
