"""From what a run stores of an image to a row that can be compared with others."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from shardcam.engine.clusters.settings import MAPS, POOLED
from shardcam.engine.types import F4, I4, NO_CLASS, U1

NORMS = {MAPS: 1, POOLED: 2}  # in which a row has the length 1


class LeftOut(IntEnum):
    """Why an image is in no cluster; 0: it is in one."""

    NOT_EXPLAINED = 1
    NON_FINITE = 2
    ALL_ZERO = 3
    CONSTANT = 4

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    LeftOut.NOT_EXPLAINED: "class not explained",
    LeftOut.NON_FINITE: "not finite",
    LeftOut.ALL_ZERO: "all zero after ReLU",
    LeftOut.CONSTANT: "constant",
}


def comparable(values: npt.NDArray[Any], target: I4, kind: str, blur: float = 0) -> tuple[F4, U1]:
    """(N,...) maps or pooled activations -> (N,D) rows, and (N,) 0 or of `LeftOut`.

    Maps: raw and signed; negatives become 0, and a map is smoothed and divided by its sum. Pooled
    activations: divided by their length. What is left out has a row of zeros.

    Parameters
    ----------
    target
        (N,) the class that is explained, NO_CLASS where there is none.
    kind
        ``maps`` or ``pooled``.
    blur
        Of maps; see `settings.Settings`.
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    reason = np.zeros(len(rows), np.uint8)
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0
    constant = np.ptp(rows, axis=1) == 0
    if kind == MAPS:
        np.maximum(rows, 0, out=rows)
        sides = values.shape[1:]
        smooth = gaussian_filter(
            rows.reshape(-1, *sides), (0, *(blur * side for side in sides)), mode="reflect"
        )
        rows = smooth.reshape(rows.shape)
    length = np.linalg.norm(rows, NORMS[kind], axis=1)
    if kind == MAPS:
        reason[constant] = LeftOut.CONSTANT
    reason[length == 0] = LeftOut.ALL_ZERO
    reason[~finite] = LeftOut.NON_FINITE
    if kind == MAPS:
        reason[target == NO_CLASS] = LeftOut.NOT_EXPLAINED
    rows /= np.where(length > 0, length, 1)[:, None]
    rows[reason > 0] = 0
    return rows.astype(np.float32), reason
