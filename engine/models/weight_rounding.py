"""int8 weights of convolutions, rounded for what comes out and not each to the nearest.

MXNet gives each output channel of a convolution a step of its own, 1/127.5 of its largest weight,
and rounds every weight to the nearest. Inputs of the first convolutions are alike in all places
and channels, so errors of that kind add up, to a tenth of what EfficientNet-Lite0's first block
computes. Here each weight makes good what the ones rounded before it left, by the second moments
of the inputs on calibration images: the nearest plane of Babai, also known as GPTQ (Frantar et
al., arXiv:2210.17323). MXNet leaves weights on a step where they are.
"""

from __future__ import annotations

import base64
import zlib
from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.types import F4, F8

MOST_INPUTS = 255  # of an output; with more of them errors of rounding cancel by themselves
_FEWEST, _PLACES = 4, 32  # of an image whose inputs count, more where an output has more inputs
_LEVELS = np.float32(127.5)  # steps that MXNet gives the largest weight
_LEAST, _MOST = -128, 127  # that int8 has
_NONE = 1e-30  # weights that are as good as 0
_DAMPING = 0.01  # of the mean second moment: what the images do not show counts a little, too

I1 = npt.NDArray[np.int8]
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Site:
    """A convolution: what it reads, and how."""

    weight: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilate: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, weight: str, attrs: Mapping[str, str]) -> Site:
        """By the attributes of MXNet's ``Convolution``."""

        def pair(name: str, default: int) -> Any:
            return tuple(literal_eval(attrs.get(name, "()"))) or (default, default)

        sides = pair("kernel", 1), pair("stride", 1), pair("pad", 0), pair("dilate", 1)
        return cls(weight, *sides, int(attrs.get("num_group", 1)))

    def windows(self, shape: tuple[int, ...]) -> list[Window]:
        """What some of the outputs read of (N,C,H,W) images: the same places of each."""
        _, channels, *sides = shape
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilate, strict=True)]
        down, across = (
            (side + 2 * pad - span) // stride + 1
            for side, pad, span, stride in zip(sides, self.pad, spans, self.stride, strict=True)
        )
        inputs = channels // self.groups * prod(self.kernel)
        places = min(_PLACES, max(_FEWEST, inputs // 4), down * across)
        chosen = np.random.RandomState(0).choice(down * across, places, replace=False)
        rows, columns = (
            (at * stride - pad)[:, None] + np.arange(kernel) * dilate
            for at, stride, pad, kernel, dilate in zip(
                np.divmod(chosen, across), self.stride, self.pad, self.kernel, self.dilate,
                strict=True,
            )
        )  # fmt: skip
        return [Window.of(*one, *sides) for one in zip(rows, columns, strict=True)]

    def moments(self, seen: F4) -> F8:
        """(groups,K,K) second moments of the K inputs of an output, over (...,C,h,w) windows."""
        inputs = prod(seen.shape[-3:]) // self.groups
        values = seen.astype(np.float64, "C").reshape(-1, self.groups, inputs)
        moments: F8 = np.matmul(values.transpose(1, 2, 0), values.swapaxes(0, 1))
        return moments


@dataclass(frozen=True)
class Window:
    """Pixels that an output reads; what lies outside of the picture is 0."""

    rows: Ints  # (h,1)
    columns: Ints  # (w,)
    inside: npt.NDArray[np.bool_]  # (h,w)

    @classmethod
    def of(cls, rows: Ints, columns: Ints, height: int, width: int) -> Window:
        """Of (h,) rows and (w,) columns, some of which may lie outside."""
        inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        return cls(rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1), inside)

    @property
    def box(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Its first row and column, and those behind the last ones."""
        rows, columns = self.rows[:, 0].tolist(), self.columns.tolist()
        return (min(rows), min(columns)), (max(rows) + 1, max(columns) + 1)

    def seen(self, box: F4) -> F4:
        """(N,C,h,w) of the pixels in its box."""
        if box.shape[2:] == self.inside.shape and self.inside.all():
            return box
        first = self.box[0]
        values: F4 = box[:, :, self.rows - first[0], self.columns - first[1]] * self.inside
        return values


def steps_off(weight: F4, moments: F8) -> str:
    """How many steps each weight is to lie off the nearest one, for `on_steps`.

    Parameters
    ----------
    weight
        (O,...) weights.
    moments
        See `Site.moments`.
    """
    groups, inputs = moments.shape[:2]
    exact = _in_steps(weight)[0].astype(np.float64).reshape(groups, -1, inputs).transpose(0, 2, 1)
    largest = np.abs(exact).argmax(axis=1)  # makes the step, and must stay
    theirs = _rounded(np.take_along_axis(exact, largest[:, None], axis=1)[:, 0])
    damping = _DAMPING * np.einsum("gkk->g", moments) / inputs + np.finfo(np.float32).tiny
    factor = np.linalg.cholesky(moments + damping[:, None, None] * np.eye(inputs))
    factor = factor.transpose(0, 2, 1)
    left = np.zeros_like(exact)
    for k in reversed(range(inputs)):
        carried = np.einsum("gk,gko->go", factor[:, k, k + 1 :], left[:, k + 1 :])
        wanted = exact[:, k] + carried / factor[:, k, k, None]
        rounded = np.where(largest == k, theirs, np.rint(wanted).clip(-_MOST, _MOST))
        left[:, k] = exact[:, k] - rounded
    chosen = np.rint(exact - left)
    off: I1 = (chosen - np.rint(exact)).transpose(0, 2, 1).astype(np.int8)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(off).tobytes(), 1)).decode()


def on_steps(weight: F4, off: str) -> F4:
    """The weights on their steps; as they are if `off` is of as many others.

    A network for another size of input may have other kernels.

    Raises
    ------
    ValueError
        `off` is none of `steps_off`.
    """
    data = zlib.decompressobj().decompress(base64.b64decode(off, validate=True), weight.size + 1)
    if len(data) != weight.size:
        return weight
    exact, scale = _in_steps(weight)
    chosen: F4 = (np.rint(exact) + np.frombuffer(data, np.int8).reshape(weight.shape)) / scale
    rows = chosen.reshape(len(weight), -1)  # a view
    largest = np.abs(exact).reshape(rows.shape).argmax(axis=1)[:, None]
    own = np.take_along_axis(weight.reshape(rows.shape), largest, axis=1)
    np.put_along_axis(rows, largest, own, axis=1)
    return chosen


def nearest(weight: F4) -> F4:
    """What MXNet makes of the weights of a convolution."""
    exact, scale = _in_steps(weight)
    rounded: F4 = _rounded(exact) / scale
    return rounded


def _rounded(exact: Floats) -> Floats:
    return np.rint(exact).clip(_LEAST, _MOST)


def _in_steps(weight: F4) -> tuple[F4, F4]:
    """The weights in steps of their output channel, and how many make 1; as MXNet computes them."""
    peak = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    scale = _LEVELS / np.where(peak > _NONE, peak, np.float32(1))
    return weight * scale, scale
