"""From the maps of several scales of a picture to the one that is shown."""

from __future__ import annotations

import numpy as np

from shardcam.engine.types import GridMaps, LayerMaps
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
    small = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
    total = np.zeros((*grids.scale.shape[:2], *small), np.float32)
    for maps, scale in zip(grids.normalized, np.moveaxis(grids.scale, 2, 0), strict=True):
        raw = np.maximum(maps, np.float32(0)) * scale[..., None, None]
        total += upsample(raw.reshape(-1, *maps.shape[2:]), small).reshape(total.shape)
    normalized, peak, _ = scale_maps(total)
    return LayerMaps(normalized, np.where(np.isnan(grids.scale[..., 0]), grids.scale[..., 0], peak))
