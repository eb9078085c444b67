"""From raw maps to scores of classes on the pixels of a picture, as weak supervision has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.placement import enlarged_onto
from shardcam.engine.types import F4, I4, NO_CLASS

IRN, PSA, SEAM, PGC = NORMALISATIONS = "irn", "psa", "seam", "pgc"
_SMALL = np.float32(1e-5)


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
    usable = (classes != NO_CLASS) & np.isfinite(maps).all(axis=(1, 2))
    chosen = np.flatnonzero(usable)
    chosen = chosen[np.argsort(classes[chosen], kind="stable")]
    before, after = _STEPS[how]
    height, width = image_size.tolist()
    scores = np.zeros((len(chosen), height, width), np.float32)
    for k, one in enumerate(chosen):
        values, seen = enlarged_onto(before(maps[one]), crop, image_size)
        if values.size:
            scores[k][seen] = after(values)
    return classes[chosen], scores


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
