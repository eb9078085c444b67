"""Colour tables: 256 levels of a heatmap as RGB."""

from __future__ import annotations

import numpy as np

from shardcam.kernels._checks import U1

# Where 4 * level rises from 0 and falls to 0, on the 0-255 scale: red, green, blue.
_RISES = np.array([382.5, 127.5, -127.5])
_FALLS = np.array([1147.5, 892.5, 637.5])


def _jet() -> U1:
    ramp = 4.0 * np.arange(256)[:, None]
    table: U1 = np.rint(np.clip(np.minimum(ramp - _RISES, _FALLS - ramp), 0, 255)).astype(np.uint8)
    table[159, 2] = 1  # 1.5, a tie; OpenCV's decimal constants fall just short of it
    table.flags.writeable = False
    return table


JET = _jet()
"""(256,3), uint8, C order, read-only: RGB of each level, from blue through green to red.

Each channel is one trapezium, `clip(min(4i - rise, fall - 4i), 0, 255)` rounded half to even:
the classic jet map. Entry for entry it is OpenCV's COLORMAP_JET in RGB order.
"""
