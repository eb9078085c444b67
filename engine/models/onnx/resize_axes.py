"""Resizing, along one axis at a time.

That is a fixed matrix: nearest takes rows by number, linear and cubic multiply by a matrix with
two or four numbers in each row.  All are exact for every convention of where a pixel lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axes_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.fold_bounds import pay_product
from shardcam.engine.models.onnx.onnx_graph import MAX_ELEMENTS, Array
from shardcam.engine.types import F4


def resize_axes(call: Call, old: Sequence[int]) -> dict[int, Array]:
    """Of rows and columns: the numbers of those to take, or the matrix that makes the new ones.

    `old` are the sizes, and 0 for a batch of any size.
    """
    mode = call.text("mode", "nearest")
    where = "asymmetric" if call.opset < 11 else _convention(call)
    if mode not in ("nearest", "linear", "cubic"):
        raise ModelError(f"mode {mode!r} is not supported")
    rounding = call.text("nearest_mode", "round_prefer_floor" if call.opset > 10 else "simple")
    bend = call.number("cubic_coeff_a", -0.75)
    scales, sizes = _scales(call, old)
    changes: dict[int, Array] = {}
    for axis in (2, 3):
        size, scale = old[axis], scales[axis]
        if sizes[axis] == size and scale == 1:
            continue
        points = _points(where, size, sizes[axis], scale)
        if mode == "nearest":
            changes[axis] = _nearest(points, rounding, size, scale)
        else:
            linear = mode == "linear"
            changes[axis] = _linear(points, size) if linear else _cubic(points, size, bend)
    return changes


def _convention(call: Call) -> str:
    call.must_be("antialias", 0)
    call.must_be("keep_aspect_ratio_policy", "stretch")
    call.must_be("exclude_outside", 0)
    call.ignore("extrapolation_value")
    where = call.text("coordinate_transformation_mode", "half_pixel")
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        raise ModelError(f"coordinate_transformation_mode {where!r} is not supported")
    return where


def _scales(call: Call, old: Sequence[int]) -> tuple[list[float], list[int]]:
    """Scale and new size of every axis."""
    axes = axes_of(call, None, len(old)) if call.opset > 17 else None
    axes = axes or tuple(range(len(old)))
    given = call.optional_array(1 if call.opset < 11 else 2)
    scales, sizes = [1.0] * len(old), list(old)
    if given is not None and given.size:
        _one_for_each(axes, given)
        for axis, scale in zip(axes, given.astype(np.float64), strict=True):
            scales[axis], sizes[axis] = float(scale), int(np.floor(old[axis] * scale))
    else:
        wanted = call.known(3)
        for axis, first, second in zip(axes, *wanted.values, strict=True):
            if axis or old[0]:  # a batch of any size keeps it
                if first != second:
                    raise ModelError("its size depends on the batch size")
                scales[axis], sizes[axis] = float(first) / old[axis], int(first)
    if scales[:2] != [1, 1] or min(sizes[1:]) < 1 or max(sizes) ** 2 > MAX_ELEMENTS:
        raise ModelError(f"scales {scales} are not supported")
    return scales, sizes


def _one_for_each(axes: Sequence[int], given: Array) -> None:
    if given.shape != (len(axes),) or not np.isfinite(given).all() or given.min() <= 0:
        raise ModelError(f"scales {given.tolist()} for {len(axes)} axes")


def _points(where: str, old: int, new: int, scale: float) -> Array:
    """Where each new pixel lies among the old ones."""
    new_points = np.arange(new, dtype=np.float64)
    if where == "asymmetric":
        return new_points / scale
    if where == "align_corners":
        return new_points * (old - 1) / (new - 1) if new > 1 else np.zeros(1)
    if where == "pytorch_half_pixel" and new == 1:
        return np.zeros(1)
    return (new_points + 0.5) / scale - 0.5


def _nearest(points: Array, rounding: str, old: int, scale: float) -> Array:
    points = points.astype(np.float32).astype(np.float64)
    if rounding == "simple":
        rounding = "ceil" if scale < 1 else "floor"
    rounded = {
        "floor": np.floor(points),
        "ceil": np.ceil(points),
        "round_prefer_floor": np.ceil(points - 0.5),
        "round_prefer_ceil": np.floor(points + 0.5),
    }
    if rounding not in rounded:
        raise ModelError(f"nearest_mode {rounding!r} is not supported")
    rows: Array = np.clip(rounded[rounding], 0, old - 1)
    return rows


def _linear(points: Array, old: int) -> F4:
    """(new,old) matrix of the two neighbours' shares; beyond the edge the edge counts."""
    points = np.clip(points, 0, old - 1)
    low = np.minimum(np.floor(points).astype(np.int64), max(old - 2, 0))
    share = points - low
    matrix = np.zeros((len(points), old), np.float32)
    rows = np.arange(len(points))
    matrix[rows, low] = 1 - share
    matrix[rows, np.minimum(low + 1, old - 1)] += share.astype(np.float32)
    return matrix


def _cubic(points: Array, old: int, bend: float) -> F4:
    """(new,old) matrix of the four neighbours' shares (Keys 1981); beyond the edge it counts."""
    low = np.floor(points).astype(np.int64)
    matrix = np.zeros((len(points), old), np.float32)
    for step in (-1, 0, 1, 2):
        far = abs(points - low - step)
        near = ((bend + 2) * far - (bend + 3)) * far**2 + 1
        outer = bend * (((far - 5) * far + 8) * far - 4)
        neighbour = np.clip(low + step, 0, old - 1)
        shares = np.where(far <= 1, near, outer).astype(np.float32)
        np.add.at(matrix, (np.arange(len(points)), neighbour), shares)
    return matrix


def resized(call: Call, x: Array) -> Array:
    """A constant (N,C,H,W), such as an embedding of positions for pictures of another size."""
    if x.ndim != 4:
        raise ModelError("this operator is not supported on constants")
    result = x
    for axis, change in resize_axes(call, x.shape).items():
        made, depth = result.size // result.shape[axis] * len(change), result.shape[axis]
        pay_product(call, result.size, made, depth)
        if change.ndim == 1:
            result = result.take(change.astype(np.int64), axis)
        else:
            result = np.moveaxis(np.tensordot(result, change, (axis, 1)), -1, axis)
    return result.astype(x.dtype)
