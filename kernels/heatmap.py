"""From a raw map to a heatmap of the image's size."""

from __future__ import annotations

import functools

import numpy as np

from shardcam.kernels._checks import F4, U1, require
from shardcam.kernels._raster import Taps, _heatmap_u8, _normalize, _upsample


def normalize(maps: F4) -> F4:
    """(M,h,w) -> (M,h,w), float32, C order.

    ReLU, then each map to [0, 1]: `x = relu(raw); x -= min(x); x /= max(x) + 1e-7`, in
    pytorch-grad-cam's order (`scale_cam_image`). A constant map gives zeros, and so does a
    map with a NaN or an infinity in it.

    Parameters
    ----------
    maps : (M, h, w) float32
        Raw signed maps.

    Returns
    -------
    (M, h, w) float32
        Without unit.

    Raises
    ------
    TypeError, ValueError
        If `maps` has another dtype or number of axes, or is not C-contiguous.
    """
    require("maps", maps, np.float32, "M", "h", "w")
    out = np.empty_like(maps, subok=False)
    _normalize(maps, out=(out,))
    return out


def upsample(maps: F4, size: tuple[int, int], align_corners: bool = False) -> F4:
    """(M,h,w) -> (M,H,W), float32, C order.

    Bilinear with half-pixel centres: output pixel `i` of `n` samples the input at
    `(i + 0.5) * h / n - 0.5`, clamped to the edges. This is OpenCV's INTER_LINEAR. Shrinking
    samples at the same points and, as in OpenCV, does not smooth first.

    Parameters
    ----------
    maps : (M, h, w) float32
        A NaN or an infinity spreads to the pixels around it.
    size : (H, W)
        In pixels.
    align_corners : bool
        The centres of the corners stay where they are, as PyTorch's option of that name has it:
        output pixel `i` samples the input at `i * (h - 1) / (n - 1)`.

    Returns
    -------
    (M, H, W) float32
        In the unit of `maps`.

    Raises
    ------
    TypeError, ValueError
        If `maps` has another dtype or number of axes or is not C-contiguous, or `size` is
        not positive.
    """
    count, h, w = require("maps", maps, np.float32, "M", "h", "w")
    down, across = taps(h, size[0], align_corners), taps(w, size[1], align_corners)
    out = np.empty((count, *size), np.float32)
    _upsample(maps, down, across, out=(out,))
    return out


def heatmap_u8(maps: F4, size: tuple[int, int]) -> U1:
    """(M,h,w) -> (M,H,W), float32 to uint8, C order.

    `uint8(255 * normalize(upsample(normalize(maps), size)))`, truncated, in one pass over
    the output: pytorch-grad-cam's heatmap (`scale_cam_image` once before it enlarges a map,
    and once after). Where the enlarged values are equal but for rounding, to 1e-6 of the
    map's peak, it is zeros.

    Parameters
    ----------
    maps : (M, h, w) float32
        Raw signed maps.
    size : (H, W)
        In pixels.

    Returns
    -------
    (M, H, W) uint8
        Levels 0 to 255.

    Raises
    ------
    TypeError, ValueError
        As `upsample`.
    """
    count, h, w = require("maps", maps, np.float32, "M", "h", "w")
    down, across = taps(h, size[0]), taps(w, size[1])
    out = np.empty((count, *size), np.uint8)
    _heatmap_u8(maps, down, across, out=(out,))
    return out


@functools.lru_cache(maxsize=64)
def taps(source: int, target: int, align_corners: bool = False) -> Taps:
    """(target,), (target,), (<= 2 source,): what each output pixel mixes along one axis.

    The first, uint64, is the lower of two neighbouring samples; the second, float32, the
    upper one's share. The last, uint64, are the output pixels at both ends of each run with
    the same neighbours: between them values change linearly.
    """
    if target < 1:
        raise ValueError(f"size: expected positive numbers, got {target}")
    if align_corners:
        position = np.linspace(0, source - 1, target)
    else:
        position = (np.arange(target) + 0.5) * (source / target) - 0.5
        position = np.clip(position, 0, source - 1)
    lower = position.astype(np.uint64)
    share = (position - lower).astype(np.float32)
    first = np.diff(lower, prepend=source) != 0
    ends = np.flatnonzero(first | np.append(first[1:], True)).astype(np.uint64)
    for array in (lower, share, ends):
        array.flags.writeable = False
    return lower, share, ends
