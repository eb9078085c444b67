"""From raw maps to scores of classes on the pixels of a picture, as weak supervision has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.placement import enlarged_onto
from shardcam.engine.rundir.one_map import summed
from shardcam.engine.types import F4, I4, NO_CLASS
from shardcam.kernels import upsample

IRN, PSA, SEAM, PGC = NORMALISATIONS = "irn", "psa", "seam", "pgc"
_IRN_BLOCK = 16  # pixels that the sides of its network's input are multiples of
_SMALL = np.float32(1e-5)
_Size = tuple[int, int]


def class_scores(
    maps: F4, classes: I4, crop: npt.NDArray[Any], image_size: npt.NDArray[Any], how: str = IRN
) -> tuple[I4, F4]:
    """(K,h,w) raw signed maps -> (k,) classes and (k,height,width) scores, by rising class.

    Those of NO_CLASS and those that are not finite are left out. What the network saw nothing of
    has the score 0.

    Parameters
    ----------
    maps, classes, crop, image_size
        Of one sample, as a run has them.
    how
        ``irn`` and ``psa``: rectified, enlarged, over the maximum. ``seam``: enlarged, rectified,
        from a little below 0 at the minimum to 1. ``pgc``: from 0 to 1 on the map's grid, and
        again when enlarged, as pytorch-grad-cam does.
    """
    chosen = _usable([maps], classes)
    before, after = _STEPS[how]
    height, width = image_size.tolist()
    scores = np.zeros((len(chosen), height, width), np.float32)
    for k, one in enumerate(chosen):
        values, seen = enlarged_onto(before(maps[one]), crop, image_size)
        if values.size:
            scores[k][seen] = after(values)
    return classes[chosen], scores


def grid_scores(
    grids: Sequence[F4],
    scales: Sequence[float],
    classes: I4,
    crop: npt.NDArray[Any],
    image_size: npt.NDArray[Any],
    how: str = IRN,
) -> tuple[I4, F4]:
    """(K,h,w) raw maps of each scale -> (k,) classes and (k,height,width) scores, by rising class.

    Those of NO_CLASS and those that are not finite are left out. The scores are of the sum over
    scales of maps, each enlarged bilinearly (half-pixel centres); outside of a crop they are 0.

    Parameters
    ----------
    grids
        Of one sample that the network saw at its own size; mirrored maps are added already.
    scales
        Of the pictures that the maps are of.
    classes, crop, image_size
        As a run has them.
    how
        ``irn``: rectified, enlarged to the size that is rounded up to multiples of 16 and cut
        (``high_res``), over the maximum. ``psa``: the same, but enlarged to the size itself.
        ``seam``: enlarged to the scaled size by SEAM's network, whose corners are aligned, from
        there to the size, summed, and rectified only then; see `seam_range`. ``pgc``: of
        `one_map`, as `class_scores` has it.
    """
    top, left, bottom, right = (round(edge) for edge in crop.tolist())
    size = bottom - top, right - left
    if how == PGC:
        return class_scores(one_map(grids, size), classes, crop, image_size, PGC)
    chosen = _usable(grids, classes)
    if how == SEAM:
        parts = [
            upsample(maps[chosen], _scaled(size, scale), True)
            for maps, scale in zip(grids, scales, strict=True)
        ]
    else:
        parts = [_rectified(maps[chosen]) for maps in grids]
    block = _IRN_BLOCK if how == IRN else 1
    onto = -(-size[0] // block) * block, -(-size[1] // block) * block
    scores = np.ascontiguousarray(_enlarged_sum(parts, onto)[:, : size[0], : size[1]])
    for one in scores:
        one[:] = _STEPS[how][1](one)
    height, width = image_size.tolist()
    if size != (height, width):
        seen, scores = scores, np.zeros((len(chosen), height, width), np.float32)
        scores[:, top:bottom, left:right] = seen
    return classes[chosen], scores


def one_map(grids: Sequence[F4], size: _Size) -> F4:
    """(K,h,w) raw maps of each scale -> (K,H,W): IRN's ``cam`` before it is divided.

    The sum of the rectified maps at a quarter of the `size`, rounded up; of a single scale its map.
    """
    if len(grids) == 1:
        return grids[0]
    return summed(grids, size)


def over_maximum(values: F4) -> F4:
    """IRN's and PSA's: x / (max + 1e-5)."""
    scores: F4 = values / (values.max() + _SMALL)
    return scores


def seam_range(values: F4) -> F4:
    """SEAM's: negatives to 0, and what is lowest too, then (x - min - 1e-5) / (max - min + 1e-5).

    So what was lowest ends below 0.
    """
    values = np.maximum(values, 0)
    low, high = values.min(), values.max()
    values[values < low + _SMALL] = 0
    scores: F4 = (values - low - _SMALL) / (high - low + _SMALL)
    return scores


def pgc_range(values: F4) -> F4:
    """pytorch-grad-cam's: rectified, less the minimum, over (max + 1e-7)."""
    values = np.maximum(values, 0)
    values -= values.min()
    scores: F4 = values / (values.max() + np.float32(1e-7))
    return scores


def _usable(grids: Sequence[F4], classes: I4) -> npt.NDArray[np.intp]:
    """Places of the classes that there are and have finite maps only, by rising class."""
    usable = classes != NO_CLASS
    for maps in grids:
        usable = usable & np.isfinite(maps).all(axis=(1, 2))
    places = np.flatnonzero(usable)
    chosen: npt.NDArray[np.intp] = places[np.argsort(classes[places], kind="stable")]
    return chosen


def _scaled(size: _Size, scale: float) -> _Size:
    """Of the picture that the network saw at a scale."""
    height, width = (max(round(side * scale), 1) for side in size)
    return height, width


def _enlarged_sum(parts: Sequence[F4], size: _Size) -> F4:
    total = upsample(np.ascontiguousarray(parts[0]), size)
    for maps in parts[1:]:
        total += upsample(np.ascontiguousarray(maps), size)
    return total


def _rectified(raw: F4) -> F4:
    return np.maximum(raw, 0)


def _as_it_is(raw: F4) -> F4:
    return raw


_STEPS: dict[str, tuple[Callable[[F4], F4], Callable[[F4], F4]]] = {
    IRN: (_rectified, over_maximum),
    PSA: (_rectified, over_maximum),
    SEAM: (_as_it_is, seam_range),
    PGC: (pgc_range, pgc_range),
}
