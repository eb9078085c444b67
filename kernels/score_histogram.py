"""How many pixels of objects, and of what is around them, have which score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import U1, require
from shardcam.kernels._jit import Kernel

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


def score_histogram(scores: F8, kinds: U1, edges: F8) -> I8:
    """(H,W), (H,W), (E) -> (2,E), float64 and uint8 to int64, C order.

    The pixels of kind 0 and of kind 1 with edges[e] <= score < edges[e + 1]; the last edge has
    all above it, the first all below.

    Parameters
    ----------
    scores : (H, W) float64
        Finite.
    kinds : (H, W) uint8
        Pixels of other kinds than 0 and 1 are not counted.
    edges : (E,) float64
        Rising; evenly spaced ones are found at once.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or shape or is not C-contiguous.
    """
    height, width = require("scores", scores, np.float64, "H", "W")
    require("kinds", kinds, np.uint8, height, width)
    (count,) = require("edges", edges, np.float64, "E")
    counts = np.zeros((2, count), np.int64)
    _score_histogram(scores, kinds, edges, out=(counts,))
    return counts


@Kernel
def _score_histogram(scores: F8, kinds: U1, edges: F8, counts: I8) -> None:
    last = len(edges) - 1
    step = edges[min(1, last)] - edges[0]
    for y in range(scores.shape[0]):
        for x in range(scores.shape[1]):
            if kinds[y, x] < 2:
                guess = (scores[y, x] - edges[0]) / step if step > 0 else 0.0
                e = int(min(max(guess, 0.0), float(last)))
                while e > 0 and edges[e] > scores[y, x]:
                    e -= 1
                while e < last and edges[e + 1] <= scores[y, x]:
                    e += 1
                counts[kinds[y, x], e] += 1
