"""Pooling. ONNX and MXNet count windows and divisors differently; only the same counts pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Tensor
from shardcam.engine.models.onnx.pad import pad
from shardcam.engine.models.onnx.window import Window, kernel_of, window_of
from shardcam.engine.types import F4

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Axis:
    """The windows along one axis."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    count: int  # number of windows

    def mxnet_count(self, convention: str) -> int:
        """How many windows MXNet makes with `before` as the padding of both sides."""
        room = self.size + 2 * self.before - self.kernel
        return (room // self.stride if convention == "valid" else -(-room // self.stride)) + 1

    @property
    def reach(self) -> int:
        """End of the last window, from the image's first pixel."""
        return (self.count - 1) * self.stride + self.kernel - self.before

    def divisors(self, include_pad: bool) -> F4:
        """How many numbers each window averages. Beyond the padding nothing counts."""
        start = np.arange(self.count) * self.stride - self.before
        low, high = (-self.before, self.size + self.after) if include_pad else (0, self.size)
        counted = np.minimum(start + self.kernel, high) - np.maximum(start, low)
        return np.asarray(counted, np.float32)


def max_pool(call: Call) -> Tensor:
    """MaxPool in two dimensions."""
    call.ignore("storage_order")
    if call.outputs > 1:
        raise ModelError("its second output, the indices, is not supported")
    x, axes = _windows(call)
    direct = _pooling(call, x, axes, "max")
    if direct is not None:
        return direct
    return _after_padding(call, x, axes, "max", LOWEST)


def average_pool(call: Call) -> Tensor:
    """AveragePool in two dimensions."""
    include_pad = bool(call.integer("count_include_pad", 0))
    x, axes = _windows(call)
    if all(a.kernel == a.size and a.before == a.after == 0 and a.count == 1 for a in axes):
        return global_pool(call, x, "avg")
    if not include_pad or all(
        a.before == a.after or a.reach <= a.size + min(a.before, a.after) for a in axes
    ):
        direct = _pooling(call, x, axes, "avg", include_pad)
        if direct is not None:
            return direct
    return _averaged_after_padding(call, x, axes, include_pad)


def global_op(call: Call) -> Tensor:
    """GlobalAveragePool and GlobalMaxPool."""
    return global_pool(call, call.image(), "avg" if "Average" in call.op else "max")


def global_pool(call: Call, x: Tensor, kind: str, part: str = "") -> Tensor:
    """(N,C,H,W) -> (N,C,1,1)."""
    return call.emit("Pooling", [x], part, global_pool=True, kernel=(1, 1), pool_type=kind)


def _windows(call: Call) -> tuple[Tensor, list[_Axis]]:
    x, kernel = call.image(), kernel_of(call)
    window = window_of(call, kernel, (x.sizes[1], x.sizes[2]))
    if window.dilation != (1, 1):
        raise ModelError(f"dilations {window.dilation} are not supported")
    round_up = bool(call.integer("ceil_mode", 0))
    return x, [_axis(window, i, size, round_up) for i, size in enumerate(x.sizes[1:])]


def _axis(window: Window, i: int, size: int, round_up: bool) -> _Axis:
    kernel, stride = window.kernel[i], window.stride[i]
    before, after = window.before[i], window.after[i]
    room = size + before + after - kernel
    if room < 0 or max(before, after) >= max(kernel, 2):
        raise ModelError(f"a window of {kernel} padded by {before} and {after} does not fit {size}")
    if window.auto.startswith("SAME"):
        count = -(-size // stride)
    elif round_up:
        count = -(-room // stride) + 1
        if (count - 1) * stride >= size + before:  # it would see nothing but padding
            count -= 1
    else:
        count = room // stride + 1
    return _Axis(size, kernel, stride, before, after, count)


def _pooling(
    call: Call, x: Tensor, axes: Sequence[_Axis], kind: str, include_pad: bool = False
) -> Tensor | None:
    """MXNet's own pooling, if one of its two conventions makes the same windows."""
    for convention in ("valid", "full"):
        if all(a.mxnet_count(convention) == a.count and a.before < a.kernel for a in axes):
            return call.emit(
                "Pooling", [x], pool_type=kind, pooling_convention=convention,
                kernel=tuple(a.kernel for a in axes), stride=tuple(a.stride for a in axes),
                pad=tuple(a.before for a in axes), count_include_pad=include_pad,
            )  # fmt: skip
    return None


def _after_padding(
    call: Call, x: Tensor, axes: Sequence[_Axis], kind: str, value: float, part: str = ""
) -> Tensor:
    widths = [(0, 0), (0, 0), *((a.before, max(a.reach - a.size, 0)) for a in axes)]
    padded = pad(call, x, widths, "constant", value, "pad")
    return call.emit(
        "Pooling", [padded], part, pool_type=kind, pooling_convention="valid",
        kernel=tuple(a.kernel for a in axes), stride=tuple(a.stride for a in axes),
    )  # fmt: skip


def _averaged_after_padding(
    call: Call, x: Tensor, axes: Sequence[_Axis], include_pad: bool
) -> Tensor:
    """The mean over padded windows, scaled to what each window counts."""
    scale = np.outer(*(a.kernel / a.divisors(include_pad) for a in axes))
    exact = bool((scale == 1).all())
    mean = _after_padding(call, x, axes, "avg", 0.0, "" if exact else "mean")
    if exact:
        return mean
    return call.emit("broadcast_mul", [mean, call.parameter("scale", scale[None, None])])
