"""From the maps of one or several layers to one heatmap for each target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shardcam.engine.types import F4, U1, LayerMaps
from shardcam.kernels import heatmap_u8, normalize, upsample


def heatmaps(maps: Mapping[str, LayerMaps], size: tuple[int, int], fuse: str = "mean") -> U1:
    """Heatmaps (N,K,H,W), levels 0 to 255, of raw maps (N,K,h,w) of each layer.

    Parameters
    ----------
    maps
        Of each layer, all with the same N and K.
    size
        H and W.
    fuse
        How several layers become one: their `mean`, as in pytorch-grad-cam; their `max`; or
        their `product`, as in RefineCAM, where a pixel counts that every layer points at.
        The result is stretched to the whole range again.
    """
    count, targets = next(iter(maps.values())).normalized.shape[:2]
    flat = [m.normalized.reshape(-1, *m.normalized.shape[2:]) for m in maps.values()]
    if len(flat) == 1:
        levels = heatmap_u8(flat[0], size)
    else:
        levels = (normalize(_fused(flat, size, fuse)) * np.float32(255)).astype(np.uint8)
    return levels.reshape(count, targets, *size)


def _fused(flat: list[F4], size: tuple[int, int], fuse: str) -> F4:
    fused = np.zeros((len(flat[0]), *size), np.float32)
    for number, maps in enumerate(flat):
        enlarged = upsample(normalize(maps), size)
        if fuse == "mean":
            fused += enlarged / np.float32(len(flat))
        elif fuse == "max":
            fused = np.maximum(fused, normalize(enlarged))
        else:
            fused = normalize(enlarged) * (fused if number else np.float32(1))
    return fused
