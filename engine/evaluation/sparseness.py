"""How concentrated a map is, whatever it shows: complexity, entropy and Gini index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shardcam.engine.evaluation.explained_classes import measure_classes
from shardcam.engine.evaluation.metric import (
    Figure,
    ImageRows,
    Measured,
    Merged,
    Reason,
    mean_figure,
)
from shardcam.engine.types import F4
from shardcam.kernels import normalize, upsample


@dataclass(frozen=True)
class Sparseness:
    """The mean of a number that each map has by itself."""

    name: str
    convention: str
    of_map: Callable[[F4, tuple[int, int]], float]  # (h,w) finite, H, W; NaN where there is none
    higher_is_better: bool | None = None
    needs_truth: bool = False

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        def measure(i: int, k: int) -> float | Reason:
            raw = maps[i, k]
            found = self.of_map(raw, rows.view_size) if np.isfinite(raw).all() else np.nan
            return Reason.NO_MAP if np.isnan(found) else found

        return Measured(*measure_classes(rows, measure))

    def figure(self, merged: Merged) -> Figure:
        return mean_figure(merged, share=self.of_map is not entropy)


def complexity(raw: F4, size: tuple[int, int]) -> float:
    """Mean of the map that pytorch-grad-cam shows: rectified and made 0 to 1, enlarged, again.

    NaN where that is zeros: of a constant map, and where nothing is positive.
    """
    shown = normalize(upsample(normalize(np.ascontiguousarray(raw[None], np.float32)), size))
    return float(shown.mean(dtype=np.float64)) if shown.any() else np.nan


def entropy(raw: F4, _: tuple[int, int]) -> float:
    """-sum p ln p with p = |map| / sum |map|, in nats."""
    share = np.abs(raw.astype(np.float64)).ravel()
    if not share.any():
        return np.nan
    share = share[share > 0] / share.sum()
    return float(-(share * np.log(share)).sum())


def gini(raw: F4, _: tuple[int, int]) -> float:
    """Gini index of |map|: 0 where all are equal, 1 - 1/hw where all is in one place."""
    size = np.sort(np.abs(raw.astype(np.float64)), axis=None)
    if not size.any():
        return np.nan
    n = len(size)
    return float((size * (2 * np.arange(1, n + 1) - n - 1)).sum() / (n * size.sum()))
