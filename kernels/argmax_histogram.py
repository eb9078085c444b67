"""Which class wins each pixel, and how many thresholds its score is above."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, U1, require
from shardcam.kernels._jit import Kernel

I8 = NDArray[np.int64]


def argmax_histogram(scores: F4, kinds: U1, thresholds: F4, count: int) -> I8:
    """(K,H,W), (H,W), (T) -> (G,K,T+1), float32 and uint8 to int64, C order.

    Place [g, k, n] has the pixels of kind g where class k has the highest score, the first of
    equal ones, and n thresholds are below that. So at threshold t class k is predicted, against
    a background of t that wins ties, by the pixels with n > t.

    Parameters
    ----------
    scores : (K, H, W) float32
        Finite.
    kinds : (H, W) uint8
        Pixels of kinds from G up are not counted.
    thresholds : (T,) float32
        Rising; evenly spaced ones are found at once.
    count : int
        G.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or shape or is not C-contiguous.
    """
    classes, height, width = require("scores", scores, np.float32, "K", "H", "W")
    require("kinds", kinds, np.uint8, height, width)
    (steps,) = require("thresholds", thresholds, np.float32, "T")
    counts = np.zeros((count, classes, steps + 1), np.int64)
    _argmax_histogram(scores, kinds, thresholds, out=(counts,))
    return counts


@Kernel
def _argmax_histogram(scores: F4, kinds: U1, thresholds: F4, counts: I8) -> None:
    steps = len(thresholds)
    step = thresholds[min(1, steps - 1)] - thresholds[0]
    for y in range(scores.shape[1]):
        for x in range(scores.shape[2]):
            if kinds[y, x] >= counts.shape[0]:
                continue
            best = 0
            for k in range(1, scores.shape[0]):
                if scores[k, y, x] > scores[best, y, x]:
                    best = k
            high = scores[best, y, x]
            guess = (high - thresholds[0]) / step if step > 0 else 0.0
            n = int(min(max(guess, 0.0), float(steps)))
            while n > 0 and thresholds[n - 1] >= high:
                n -= 1
            while n < steps and thresholds[n] < high:
                n += 1
            counts[kinds[y, x], best, n] += 1
