"""The sliding windows of convolution and pooling: kernel, stride, dilation, padding."""

from __future__ import annotations

from dataclasses import dataclass

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call

Pair = tuple[int, int]
MAX_SIDE = 2**15


@dataclass(frozen=True)
class Window:
    """A window along both spatial axes; padding before and after each."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    after: Pair
    auto: str = "NOTSET"

    @property
    def extent(self) -> Pair:
        """What one window spans."""
        height, width = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return height, width


def window_of(call: Call, kernel: Pair, sizes: Pair) -> Window:
    """The window that a node's attributes describe, over an image of these sizes."""
    stride = _pair(call.integers("strides", (1, 1)), "strides")
    dilation = _pair(call.integers("dilations", (1, 1)), "dilations")
    if min(kernel) < 1:
        raise ModelError(f"kernel {kernel} is impossible")
    auto = call.text("auto_pad", "NOTSET")
    pads = call.integers("pads", (0, 0, 0, 0))
    if len(pads) != 4 or not 0 <= min(pads) <= max(pads) <= MAX_SIDE:
        raise ModelError(f"padding {pads} is not supported")
    window = Window(kernel, stride, dilation, (pads[0], pads[1]), (pads[2], pads[3]), auto)
    if auto in ("NOTSET", ""):
        return window
    if auto == "VALID":
        return Window(kernel, stride, dilation, (0, 0), (0, 0), auto)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad {auto!r} is not supported")
    totals = [
        max((-(-n // s) - 1) * s + e - n, 0)
        for n, s, e in zip(sizes, stride, window.extent, strict=True)
    ]
    before, after = split_padding((totals[0], totals[1]), auto)
    return Window(kernel, stride, dilation, before, after, auto)


def split_padding(totals: Pair, auto: str) -> tuple[Pair, Pair]:
    """An odd padding has its extra pixel at the end, or for SAME_LOWER at the start."""
    small = totals[0] // 2, totals[1] // 2
    large = totals[0] - small[0], totals[1] - small[1]
    return (large, small) if auto == "SAME_LOWER" else (small, large)


def kernel_of(call: Call, default: tuple[int, ...] | None = None) -> Pair:
    return _pair(call.integers("kernel_shape", default), "kernel_shape")


def _pair(values: tuple[int, ...], name: str) -> Pair:
    if len(values) != 2 or not 1 <= min(values) <= max(values) <= MAX_SIDE:
        raise ModelError(f"{name} {values} is not supported")
    return values[0], values[1]
