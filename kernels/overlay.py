"""A heatmap blended into its image, in one pass over the image."""

from __future__ import annotations

import numpy as np

from kernels._checks import F4, U1, require, require_out
from kernels._jit import Kernel, inlined
from kernels.heatmap import Taps, heatmap_rows, taps

_ONE = np.float32(1)
_TOP_LEVEL = np.float32(255)

# alpha * table, (256, 3), and 1 - alpha
_Paint = tuple[F4, np.float32]


def overlay(
    raw: F4,
    image: U1,
    table: U1,
    alpha: float = 0.5,
    peak_normalize: bool = False,
    out: U1 | None = None,
) -> U1:
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
        RGB of each level, such as `colormap.JET`.
    alpha : float
        The heatmap's share, 0 to 1.
    peak_normalize : bool
        Divide `y` by its maximum over the image before truncating, so that its
        brightest channel is 255: pytorch-grad-cam's picture (`show_cam_on_image`). Reads the
        image twice.
    out : (H, W, 3) uint8, optional
        Written and returned if given; it may be `image` itself.

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
    if out is None:
        out = np.empty_like(image, subok=False)
    else:
        require_out("out", out, np.uint8, height, width, 3)

    share = np.float32(alpha)
    picture = (
        heatmap_rows(raw, (height, width)),
        taps(raw.shape[0], height),
        (share * table.astype(np.float32), _ONE - share),
        image.reshape(height, -1),
    )
    peaks = np.zeros(width * 3, np.float32)
    if peak_normalize:
        _peaks(*picture, out=(peaks,))
    _blend(*picture, peaks.max(), out=(out.reshape(height, -1),))
    return out


@inlined
def _heat_row(top: F4, bottom: F4, share: np.float32, heat: F4, levels: U1, row: F4) -> None:
    # The levels are vectorised, the look-ups cannot be, the blend after them is again: split
    # so, 224x224 takes 43 us; in one loop 94 us.
    for x in range(top.size):
        levels[x] = np.uint8(_TOP_LEVEL * ((_ONE - share) * top[x] + share * bottom[x]))
    for x in range(top.size):
        for c in range(3):
            row[3 * x + c] = heat[levels[x], c]


@Kernel
def _blend(rows: F4, down: Taps, paint: _Paint, image: U1, peak: np.float32, out: U1) -> None:
    (lower, share), (heat, rest) = down, paint
    last, width = rows.shape[0] - 1, rows.shape[1]
    levels, row = np.empty(width, np.uint8), np.empty(3 * width, np.float32)
    for y in range(lower.size):
        _heat_row(rows[lower[y]], rows[min(lower[y] + 1, last)], share[y], heat, levels, row)
        if peak > 0:
            for i in range(row.size):
                out[y, i] = np.uint8(_TOP_LEVEL * ((row[i] + rest * image[y, i]) / peak))
        else:
            for i in range(row.size):
                out[y, i] = np.uint8(row[i] + rest * image[y, i])


@Kernel
def _peaks(rows: F4, down: Taps, paint: _Paint, image: U1, peaks: F4) -> None:
    # One maximum for each column: a single one would forbid vectorising.
    (lower, share), (heat, rest) = down, paint
    last, width = rows.shape[0] - 1, rows.shape[1]
    levels, row = np.empty(width, np.uint8), np.empty(3 * width, np.float32)
    for y in range(lower.size):
        _heat_row(rows[lower[y]], rows[min(lower[y] + 1, last)], share[y], heat, levels, row)
        for i in range(row.size):
            peaks[i] = max(peaks[i], row[i] + rest * image[y, i])
