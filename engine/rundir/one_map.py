"""From the maps of several scales of a picture to the one that is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shardcam.engine.types import F4, GridMaps, LayerMaps
from shardcam.kernels import scale_maps, upsample

STRIDE = 4  # pixels of the picture for each cell of a sum


def one_map(grids: GridMaps, size: tuple[int, int]) -> LayerMaps:
    """Maps of S scales -> one of each class: (N,K,h,w) in [-1,1], and their scales (N,K).

    Of a single scale it is its map; of several the sum of the rectified maps, each enlarged
    bilinearly to (ceil(H/4),ceil(W/4)): IRN's ``cam`` before it is divided by its maximum. Scales
    that are NaN, where there is no class, stay so.

    Parameters
    ----------
    size
        H and W of the pictures.
    """
    if len(grids.normalized) == 1:
        return LayerMaps(grids.normalized[0], grids.scale[..., 0])
    scales = np.moveaxis(grids.scale, 2, 0)[..., None, None]
    raw = [maps * scale for maps, scale in zip(grids.normalized, scales, strict=True)]
    total = summed([maps.reshape(-1, *maps.shape[2:]) for maps in raw], size)
    total = total.reshape(*grids.scale.shape[:2], *total.shape[1:])
    normalized, peak, _ = scale_maps(total)
    return LayerMaps(normalized, np.where(np.isnan(grids.scale[..., 0]), grids.scale[..., 0], peak))


def summed(grids: Sequence[F4], size: tuple[int, int]) -> F4:
    """(N,h,w) raw maps of each scale -> (N,ceil(H/4),ceil(W/4)): the sum of what is positive."""
    small = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
    total = np.zeros((len(grids[0]), *small), np.float32)
    for maps in grids:
        total += upsample(np.ascontiguousarray(np.maximum(maps, np.float32(0))), small)
    return total
