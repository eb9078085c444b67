"""From the maps of one or several layers to one heatmap for each target."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping

from array_api_compat import array_namespace

from shardcam.engine.methods.arrays import heatmap_u8, normalize, upsample
from shardcam.engine.types import F4, U1, LayerMaps


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
        fused = normalize(_fused(flat, size, fuse))
        xp = array_namespace(fused)
        levels = xp.astype(fused * 255, xp.uint8)
    return levels.reshape(count, targets, *size)


def _fused(flat: list[F4], size: tuple[int, int], fuse: str) -> F4:
    enlarged = (upsample(normalize(maps), size) for maps in flat)
    if fuse == "mean":
        return functools.reduce(operator.add, (maps / len(flat) for maps in enlarged))
    each = map(normalize, enlarged)
    if fuse == "max":
        return functools.reduce(array_namespace(*flat).maximum, each)
    return functools.reduce(operator.mul, each)
