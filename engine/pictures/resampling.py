"""Pictures at several scales of their own size, as the recipes of weak supervision make them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from shardcam.engine.types import U1


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width at a scale, at least 1: halves are rounded to the even number."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def rescaled(pixels: U1, scale: float) -> U1:
    """(H,W,3) RGB -> (H*scale,W*scale,3) by Pillow's BICUBIC, to the byte; itself at 1."""
    if scale == 1:
        return pixels
    height, width = scaled_size(pixels.shape[0], pixels.shape[1], scale)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)
