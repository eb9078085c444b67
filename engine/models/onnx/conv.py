"""Convolution and its transpose."""

from __future__ import annotations

import ast
from dataclasses import replace

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Array, Known, Tensor, Weight
from shardcam.engine.models.onnx.pad import pad
from shardcam.engine.models.onnx.window import Pair, Window, kernel_of, split_padding, window_of


def conv(call: Call) -> Tensor:
    """Conv in two dimensions.

    MXNet pads both sides alike, so uneven padding grows the kernel by zeros.  That is
    the same sum, and keeps a Pad operator out of the way of oneDNN's convolutions.
    """
    x, weight = call.image(), call.known(1)
    kernel, groups = _checked_kernel(call, weight.constant), call.integer("group", 1)
    window = window_of(call, kernel, (x.sizes[1], x.sizes[2]))
    if groups < 1 or x.sizes[0] != groups * weight.constant.shape[1]:
        raise ModelError(
            f"a weight of {weight.constant.shape} in {groups} groups does not fit "
            f"{x.sizes[0]} channels"
        )
    x, window = _absorbed(call, x, window)
    grown = _grown(window)
    if grown is None:
        x, window = _padded(call, x, window)
        grown = (0, 0), (0, 0)
    variable = _grown_weight(call, weight, grown)
    pads = max(window.before[0], window.after[0]), max(window.before[1], window.after[1])
    filters = weight.constant.shape[0]
    return call.emit(
        "Convolution", [x, variable, *_bias(call, filters)],
        kernel=variable.sizes[2:], stride=window.stride, dilate=window.dilation, pad=pads,
        num_filter=filters, num_group=groups, no_bias=not call.has(2),
    )  # fmt: skip


def _checked_kernel(call: Call, weight: Array) -> Pair:
    if weight.ndim != 4 or not weight.size:
        raise ModelError(f"a weight of {weight.shape} is not supported")
    shape = weight.shape[2], weight.shape[3]
    if kernel_of(call, shape) != shape:
        raise ModelError(f"kernel_shape does not fit the weight {weight.shape}")
    return shape


def _bias(call: Call, filters: int) -> list[Weight]:
    if not call.has(2):
        return []
    if call.array(2).shape != (filters,):
        raise ModelError(f"a bias of {call.array(2).shape} does not fit {filters} filters")
    return [call.build.weight(call.known(2))]


def _absorbed(call: Call, x: Tensor, window: Window) -> tuple[Tensor, Window]:
    """A Pad by zeros just before becomes the convolution's own padding."""
    source = call.build.source(x, "Pad")
    if source is None or source[0].attrs["mode"] != "constant":
        return x, window
    if float(source[0].attrs["constant_value"]) != 0:
        return x, window
    top, bottom, left, right = ast.literal_eval(source[0].attrs["pad_width"])[4:]
    before = window.before[0] + top, window.before[1] + left
    after = window.after[0] + bottom, window.after[1] + right
    return source[1], replace(window, before=before, after=after)


def _grown(window: Window) -> tuple[Pair, Pair] | None:
    """Rows and columns of zeros (at the start, at the end) that make the padding even.

    None where dilation leaves no place for them, or the kernel would become mostly zeros.
    """
    grown = []
    for a, b, d, k in zip(window.before, window.after, window.dilation, window.kernel, strict=True):
        count, left = divmod(abs(b - a), d)
        if left or count > k:
            return None
        grown.append((count, 0) if b > a else (0, count))
    return (grown[0], grown[1]) if grown else None


def _grown_weight(call: Call, weight: Known, grown: tuple[Pair, Pair]) -> Weight:
    if grown == ((0, 0), (0, 0)):
        return call.build.weight(weight)
    return call.parameter("weight", np.pad(weight.constant, ((0, 0), (0, 0), *grown)))


def _padded(call: Call, x: Tensor, window: Window) -> tuple[Tensor, Window]:
    pairs = list(zip(window.before, window.after, strict=True))
    padded = pad(call, x, [(0, 0), (0, 0), *pairs], "constant", 0.0, "pad")
    return padded, replace(window, before=(0, 0), after=(0, 0))


def conv_transpose(call: Call) -> Tensor:
    """ConvTranspose in two dimensions; uneven padding is cut off afterwards."""
    x, weight = call.image(), call.known(1)
    kernel, groups = _checked_kernel(call, weight.constant), call.integer("group", 1)
    if groups < 1 or x.sizes[0] != weight.constant.shape[0] or x.sizes[0] % groups:
        raise ModelError(f"a weight of {weight.constant.shape} does not fit {x.sizes[0]} channels")
    extra = call.integers("output_padding", (0, 0))
    window = _transposed_window(call, kernel, (x.sizes[1], x.sizes[2]), extra)
    if len(extra) != 2 or any(not 0 <= e < s for e, s in zip(extra, window.stride, strict=True)):
        raise ModelError(f"output_padding {extra} is not supported")
    even = tuple(min(a, b) for a, b in zip(window.before, window.after, strict=True))
    uneven = any(a != b for a, b in zip(window.before, window.after, strict=True))
    filters = weight.constant.shape[1] * groups
    y = call.emit(
        "Deconvolution", [x, call.build.weight(weight), *_bias(call, filters)],
        "whole" if uneven else "",
        kernel=kernel, stride=window.stride, dilate=window.dilation, pad=even, adj=extra,
        num_filter=filters, num_group=groups, no_bias=not call.has(2),
    )  # fmt: skip
    return _cropped(call, y, window, even) if uneven else y


def _transposed_window(call: Call, kernel: Pair, sizes: Pair, extra: tuple[int, ...]) -> Window:
    """Padding from the attributes, or such that the output has the size that they ask for."""
    auto = call.text("auto_pad", "NOTSET")
    wanted = call.integers("output_shape", ())[-2:]
    plain = replace(call, attributes={**call.attributes, "auto_pad": "NOTSET"})
    window = window_of(plain, kernel, sizes)
    if not wanted and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(sizes, window.stride, strict=True))
    if not wanted:
        if auto not in ("NOTSET", "VALID", ""):
            raise ModelError(f"auto_pad {auto!r} is not supported")
        return replace(window, before=(0, 0), after=(0, 0)) if auto == "VALID" else window
    totals = [
        s * (n - 1) + more + e - out
        for n, s, e, more, out in zip(
            sizes, window.stride, window.extent, extra, wanted, strict=True
        )
    ]
    if min(totals) < 0:
        raise ModelError(f"an output of {wanted} is larger than the kernel reaches")
    before, after = split_padding((totals[0], totals[1]), auto)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        before, after = after, before
    return replace(window, before=before, after=after)


def _cropped(call: Call, y: Tensor, window: Window, even: tuple[int, ...]) -> Tensor:
    begin = tuple(a - e for a, e in zip(window.before, even, strict=True))
    end = tuple(n - (b - e) for n, b, e in zip(y.sizes[1:], window.after, even, strict=True))
    if any(b >= e for b, e in zip(begin, end, strict=True)):
        raise ModelError("nothing is left of it after padding")
    return call.emit("slice", [y], begin=(None, None, *begin), end=(None, None, *end))
