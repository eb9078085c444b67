"""From a raw map to scores of the view's pixels, as wsolevaluation makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.types import F8, U1

Floats = npt.NDArray[np.floating[Any]]

T = TypeVar("T")

ENLARGING = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}


def enlarged(raw: Floats, size: tuple[int, int], how: str) -> F8:
    """(h,w) -> (H,W), in double precision, by OpenCV."""
    wide = np.ascontiguousarray(raw, np.float64)
    return np.asarray(cv2.resize(wide, size[::-1], interpolation=ENLARGING[how]), np.float64)


def score_map(raw: Floats, size: tuple[int, int], how: str) -> F8:
    """(h,w) raw signed -> (H,W) from 0 to 1: enlarged, then less its minimum over its maximum.

    Zeros where the map is constant or not finite.
    """
    if not np.isfinite(raw).all():
        return np.zeros(size)
    scores = enlarged(raw, size, how)
    scores -= scores.min()
    return _over_maximum(scores)


def positive_score_map(raw: Floats, size: tuple[int, int], how: str) -> F8:
    """(h,w) raw signed -> (H,W) from 0 to 1: enlarged, rectified, over its maximum."""
    if not np.isfinite(raw).all():
        return np.zeros(size)
    return _over_maximum(np.maximum(enlarged(raw, size, how), 0))


def levels(scores: F8) -> U1:
    """(H,W) from 0 to 1 -> 0 to 255, truncated."""
    found: U1 = (scores * 255).astype(np.uint8)
    return found


def _over_maximum(scores: F8) -> F8:
    high = scores.max()
    if not 0 < high < np.inf:
        return np.zeros(scores.shape)
    scores /= high
    return scores


class Repeated(Generic[T]):
    """A function of a map that is not asked twice for the same one in a row.

    The maps of a baseline may be the same for all images.
    """

    def __init__(self, function: Callable[[Floats], T]) -> None:
        self._function = function
        self._last: tuple[Floats, T] | None = None

    def __call__(self, raw: Floats) -> T:
        if self._last is None or not np.array_equal(self._last[0], raw):
            self._last = raw, self._function(raw)
        return self._last[1]
