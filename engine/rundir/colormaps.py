"""Colour tables of heatmaps, by their names: OpenCV's, in RGB order."""

from __future__ import annotations

import cv2
import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import U1

_CODES = {
    "jet": cv2.COLORMAP_JET,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "turbo": cv2.COLORMAP_TURBO,
}


def colour_table(name: str) -> U1:
    """(256,3) uint8 RGB of each level; `name` is jet, viridis, inferno or turbo.

    Raises
    ------
    ConfigError
        There is no such table.
    """
    if name not in _CODES:
        raise ConfigError(f"colormap {name!r}: expected one of {', '.join(_CODES)}")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(levels, _CODES[name])[:, 0, ::-1], np.uint8)
