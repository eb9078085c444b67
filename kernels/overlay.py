"""A heatmap blended into its image, in one pass over the image."""

from __future__ import annotations

import numpy as np

from shardcam.kernels._checks import F4, U1, require
from shardcam.kernels._raster import _overlay
from shardcam.kernels.heatmap import taps


def overlay(raw: F4, image: U1, table: U1, alpha: float = 0.5, peak_normalize: bool = False) -> U1:
    """(h,w), (H,W,3), (256,3) -> (H,W,3), float32 and uint8, C order.

    With `x` the heatmap at the image's size, 0 to 1 (as `heatmap.heatmap_u8`):
    `heat = table[uint8(255 * x)]`, `y = alpha * heat + (1 - alpha) * image`, truncated.

    Parameters
    ----------
    raw : (h, w) float32
        One raw signed map.
    image : (H, W, 3) uint8
        RGB.
    table : (256, 3) uint8
        RGB of each level.
    alpha : float
        The heatmap's share, 0 to 1.
    peak_normalize : bool
        Divide `y` by its maximum over the image before truncating, so that its
        brightest channel is 255: pytorch-grad-cam's picture (`show_cam_on_image`). Reads the
        image twice.

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape or is not C-contiguous, or `alpha` is outside
        0 to 1.
    """
    require("raw", raw, np.float32, "h", "w")
    height, width, _ = require("image", image, np.uint8, "H", "W", 3)
    require("table", table, np.uint8, 256, 3)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number from 0 to 1, got {alpha}")
    out = np.empty(image.shape, np.uint8)
    down, across = taps(raw.shape[0], height), taps(raw.shape[1], width)
    flat = height, 3 * width
    options = float(alpha), bool(peak_normalize)
    inputs = raw, down, across, image.reshape(flat), table, *options
    _overlay(*inputs, out=(out.reshape(flat),))
    return out
