"""Dense conditional random fields: labels that follow the edges of a picture.

Krähenbühl and Koltun (2011), with mean-field inference as in their code and pydensecrf.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from shardcam.engine.types import F4, U1
from shardcam.kernels import Permutohedral

ITERATIONS = 10
_NEAR, _NEAR_WEIGHT = 3, 3  # pixels; of the Gaussian of places
_WIDE, _COLOUR, _WIDE_WEIGHT = 50, 5, 10  # pixels, levels; of that of places and colours
_CERTAIN = 0.7  # probability of what a label says


class DenseCrf:
    """The two pairwise terms of IRN's ``crf_inference_label``, for one picture.

    Parameters
    ----------
    picture
        (H,W,3) RGB.
    """

    def __init__(self, picture: U1) -> None:
        height, width = picture.shape[:2]
        places = np.indices((height, width), np.float32).reshape(2, -1).T[:, ::-1]
        colours = picture.reshape(-1, 3).astype(np.float32) / np.float32(_COLOUR)
        self._terms = [
            (weight, lattice, _balance(lattice, len(places)))
            for weight, lattice in (
                (_NEAR_WEIGHT, _lattice(places / np.float32(_NEAR))),
                (_WIDE_WEIGHT, _lattice(places / np.float32(_WIDE), colours)),
            )
        ]

    def refine(self, labels: U1, count: int) -> U1:
        """(H,W) labels below `count` -> those that are most probable."""
        found: U1 = self.marginals(labels, count).argmax(axis=0).astype(np.uint8)
        return found

    def marginals(self, labels: U1, count: int) -> F4:
        """(H,W) labels below `count` -> (count,H,W) probabilities."""
        if count == 1:
            return np.ones((1, *labels.shape), np.float32)
        evidence = np.full((labels.size, count), np.log((1 - _CERTAIN) / (count - 1)), np.float32)
        evidence[np.arange(labels.size), labels.ravel()] = np.log(_CERTAIN)
        found = _softmax(evidence)
        for _ in range(ITERATIONS):
            total = evidence.copy()
            for weight, lattice, balance in self._terms:
                total += weight * balance * lattice.filter(found * balance)
            found = _softmax(total)
        return np.ascontiguousarray(found.T).reshape(count, *labels.shape)


def _lattice(*parts: F4) -> Permutohedral:
    return Permutohedral(np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32))


def _balance(lattice: Permutohedral, count: int) -> F4:
    """(N,1) by which values are multiplied before and after, so that weights add up to about 1."""
    weights: F4 = lattice.filter(np.ones((count, 1), np.float32))
    balance: F4 = 1 / np.sqrt(weights + np.float32(1e-20))
    return balance


def _softmax(values: F4) -> F4:
    """(N,C), of few C: column by column is three times as fast as along the rows."""
    shifted: F4 = np.exp(values - reduce(np.maximum, values.T)[:, None])
    shifted /= reduce(np.add, shifted.T)[:, None]
    return shifted
