"""Metrics of scores as pixels come or go, in the order in which the map has them.

p is the score of a class, by the network's link, and p' that of the changed picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shardcam.engine.evaluation.explained_pairs import PGC, SIGNED, UNIT, XPLIQUE, Pairs
from shardcam.engine.evaluation.metric import (
    Columns,
    Figure,
    Merged,
    PassMetric,
    mean_figure,
)
from shardcam.engine.evaluation.running_mean import RunningMean
from shardcam.engine.types import F4, F8

_ORDERS = {
    UNIT: "rectified map, bilinear",
    PGC: "pytorch-grad-cam's heatmap",
    XPLIQUE: "rectified map, bilinear",
    SIGNED: "signed map, bilinear",
}
_RULES = {
    "": "RISE",
    "row": "RISE, step of one row",
    "signed": "RISE",
    "torchcam": "torchcam 0.5.0",
    "xplique": "Xplique",
}


@dataclass(frozen=True)
class Curve(PassMetric):
    """Insertion or deletion: the area under the scores as pixels come or go, strongest first."""

    inserts: bool
    order: str = UNIT
    ties: str = "falling"
    steps: str = "8 rows a step"  # or N equal steps, rounded up, or N points, rounded down
    blurs: bool = True  # the picture that pixels are inserted into; else zeros
    true_fractions: bool = False  # of the points, for the area; else they are evenly apart

    @property
    def higher_is_better(self) -> bool:
        return self.inserts

    @property
    def convention(self) -> str:
        base = "a blur of 11x11, sigma 5," if self.blurs and self.inserts else "zeros"
        apart = "true fractions" if self.true_fractions else "points evenly apart"
        rule = _RULES[self.name.partition(":")[2]]
        return (
            f"{rule}: link score; {self.steps}; {_ORDERS[self.order]}, ties by {self.ties} index; "
            f"{'into' if self.inserts else 'for'} {base} of the normalised input; trapezoids, "
            f"{apart}"
        )

    def counts(self, size: tuple[int, int]) -> tuple[int, ...]:
        """How many pixels are changed at each point, from none to all."""
        area = size[0] * size[1]
        number, unit = self.steps.split(maxsplit=1)
        if unit == "points":
            return tuple(np.linspace(0, area, int(number)).astype(np.int64).tolist())
        step = -(-area // int(number)) if unit == "steps" else int(number) * size[1]
        return (*range(0, area, step), area)

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        counts = self.counts(pairs.size)
        blurs = self.blurs and self.inserts
        scores = pairs.curve(counts, self.inserts, self.order, self.ties, blurs)
        fractions = np.array(counts) / counts[-1]
        if not self.true_fractions:
            fractions = np.linspace(0, 1, len(counts))
        return area_under(scores, fractions), {"curve": scores}

    def figure(self, merged: Merged) -> Figure:
        return _with_curve(mean_figure(merged), merged)


@dataclass(frozen=True)
class Road(PassMetric):
    """Scores with the most (MoRF) or the least relevant pixels (LeRF) filled in from the others."""

    kind: str  # morf, lerf, road
    percents: tuple[int, ...] = (20, 40, 60, 80)
    order: str = SIGNED
    pixels: bool = True  # noise in pixels, else in the normalised input
    change: bool = False  # of the score, else the score itself

    @property
    def higher_is_better(self) -> bool:
        return self.kind != "morf"

    @property
    def convention(self) -> str:
        what = {"morf": "MoRF", "lerf": "LeRF", "road": "(LeRF - MoRF) / 2"}[self.kind]
        score = "p' - p" if self.change else "p'"
        percents = ", ".join(map(str, self.percents))
        where = "of black to white" if self.pixels else "of the normalised input"
        return (
            f"{what} of {score}, mean over {percents} % removed by rank, {_ORDERS[self.order]}, "
            f"ties by falling index; linear imputation, noise 0.01 {where}"
        )

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        how = self.order, self.pixels
        if self.kind == "road":
            least, most = (pairs.imputed(self.percents, way, *how) for way in (False, True))
            curve = (least - most) / 2
        else:
            curve = pairs.imputed(self.percents, self.kind == "morf", *how)
            if self.change:
                curve = curve - pairs.score[:, None]
        return curve.mean(axis=1, dtype=np.float64), {"curve": curve}

    def figure(self, merged: Merged) -> Figure:
        shares = tuple(percent / 100 for percent in self.percents)
        return _with_curve(mean_figure(merged), merged, shares)


def area_under(scores: F4, fractions: F8) -> F8:
    """(P,points), (points) -> (P,) by trapezoids."""
    middle = (scores[:, 1:].astype(np.float64) + scores[:, :-1]) / 2
    found: F8 = middle @ np.diff(fractions)
    return found


def _with_curve(figure: Figure, merged: Merged, at: tuple[float, ...] = ()) -> Figure:
    """With the mean of the curves, point by point, and its 95 % interval.

    `at` are the shares of pixels that are changed; points evenly from 0 to 1 need none.
    """
    curves = RunningMean()
    for block in merged.column("curve"):
        curves.add(block.astype(np.float64))
    if not curves.count:
        return figure
    low, high = curves.interval()
    lists = {"mean": curves.mean.tolist(), "low": low.tolist(), "high": high.tolist()}
    curve = lists | ({"at": list(at)} if at else {})
    return replace(figure, details={**figure.details, "curve": curve})
