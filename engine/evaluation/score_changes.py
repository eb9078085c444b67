"""Metrics of what the network makes of a picture of which only the map is left to see.

p is the score of a class, by the network's link, and p' that of the changed picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from shardcam.engine.evaluation.explained_pairs import PGC, UNIT, XPLIQUE, Pairs, enlarged
from shardcam.engine.evaluation.metric import (
    Array,
    Columns,
    Figure,
    Merged,
    PassMetric,
    mean_figure,
)
from shardcam.engine.evaluation.pixel_curves import Road
from shardcam.engine.run.intervals import wilson
from shardcam.engine.types import F4, F8

_MASKS = {
    UNIT: "image times map, rectified and stretched at its own resolution, bilinear",
    PGC: "image times pytorch-grad-cam's heatmap",
    XPLIQUE: "image times map, rectified, bilinear, stretched with 1e-8",
}


@dataclass(frozen=True)
class ScoreChange(PassMetric):
    """Average drop, increase or gain: how the score changes when only the map is left to see."""

    kind: str  # drop, increase, gain
    mask: str = UNIT
    epsilon: float = 0.0
    absolute: bool = False  # not divided by the score

    @property
    def higher_is_better(self) -> bool:
        return self.kind != "drop"

    @property
    def convention(self) -> str:
        added = _added(self.epsilon)
        formula = {
            "drop": "max(0, p - p')" + ("" if self.absolute else f" / (p{added})"),
            "increase": "p' > p",
            "gain": f"max(0, p' - p) / (1 - p{added})",
        }[self.kind].replace("(p)", "p")
        return f"{formula}; {_MASKS[self.mask]}"

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        before = pairs.score.astype(np.float64)
        after = pairs.masked(self.mask)[0].astype(np.float64)
        if self.kind == "increase":
            return _where_known(before, after, after > before), {}
        if self.kind == "drop":
            lost, of = np.maximum(before - after, 0), before
        else:
            lost, of = np.maximum(after - before, 0), 1 - before
        if not self.absolute:
            lost = _quotient(lost, of + self.epsilon)
            lost = np.where((before >= 0) & (before <= 1), lost, np.nan)
        return _where_known(before, after, lost), {}

    def figure(self, merged: Merged) -> Figure:
        found = mean_figure(merged, share=not self.absolute)
        if self.kind != "increase" or not found.n:
            return found
        low, high = wilson(found.value * found.n, found.n)  # a share of images
        return replace(found, low=low, high=high)


@dataclass(frozen=True)
class Coherency(PassMetric):
    """How much the map of the masked picture is like the mask."""

    mask: str = UNIT
    epsilon: float = 0.0
    higher_is_better: ClassVar[bool] = True
    share: ClassVar[bool] = True

    @property
    def explained(self) -> str:
        return self.mask

    @property
    def convention(self) -> str:
        divisor = f"divisor{_added(self.epsilon)}, " if self.epsilon else ""
        return f"(Pearson's r + 1) / 2, {divisor}0 where that is none; {_MASKS[self.mask]}"

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        return coherency(pairs, self.mask, self.epsilon), {}


@dataclass(frozen=True)
class Adcc(PassMetric):
    """The harmonic mean of coherency, simplicity and what is left of the score."""

    explained: ClassVar[str] = UNIT
    share: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True
    convention: ClassVar[str] = (
        "3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), complexity the mean of the "
        f"mask; {_MASKS[UNIT]}"
    )

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        drop, _ = ScoreChange("average_drop", "drop").of(pairs)
        parts = coherency(pairs, UNIT), 1 - complexity(pairs, UNIT), 1 - drop
        return harmonic_mean(*parts), {}


@dataclass(frozen=True)
class Arcc(PassMetric):
    """The harmonic mean of coherency, simplicity and ROAD."""

    explained: ClassVar[str] = PGC
    share: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True
    convention: ClassVar[str] = (
        "3 / (1/coherency + 1/(1 - complexity) + 1/clip(2 ROAD, 0, 1)), 1e-8 added to each, "
        f"complexity the mean of the mask, ROAD at 20, 40, 60, 80 %; {_MASKS[PGC]}"
    )

    def of(self, pairs: Pairs) -> tuple[F8, Columns]:
        road, _ = Road("road", "road", order=PGC, pixels=False).of(pairs)
        parts = coherency(pairs, PGC, 1e-8), 1 - complexity(pairs, PGC), np.clip(2 * road, 0, 1)
        return harmonic_mean(*(part + 1e-8 for part in parts)), {}


def coherency(pairs: Pairs, mask: str, epsilon: float = 0.0) -> F8:
    """(P,) likeness of each map and that of the masked picture, (r + 1) / 2."""
    scores, made = pairs.masked(mask)
    if made is None:
        raise ValueError("maps of the masked pictures were not asked for")
    before = pairs.enlarged(mask)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant, or not finite
        after = enlarged(np.ascontiguousarray(made), pairs.size, mask)
        one, other = (m.reshape(len(m), -1).astype(np.float64) for m in (before, after))
        one -= one.mean(axis=1, keepdims=True)
        other -= other.mean(axis=1, keepdims=True)
        divisor = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        r = (one * other).sum(axis=1) / (divisor + epsilon * (one.shape[1] - 1))
    value = np.where(np.isfinite(r), (r + 1) / 2, 0)
    return _where_known(pairs.score, scores, value)


def complexity(pairs: Pairs, mask: str) -> F8:
    """(P,) mean of each mask, from 0 to 1."""
    found: F8 = pairs.enlarged(mask).mean(axis=(1, 2), dtype=np.float64)
    return found


def harmonic_mean(*parts: F8) -> F8:
    """Of each; 0 where one of them is, NaN where one of them is."""
    with np.errstate(divide="ignore"):
        total = sum(1 / np.maximum(part, 0) for part in parts)
    found: F8 = len(parts) / np.asarray(total)
    return found


def _added(epsilon: float) -> str:
    return f" + {epsilon:.0e}".replace("e-0", "e-") if epsilon else ""


def _quotient(part: F8, whole: F8) -> F8:
    """0 of 0 is 0: nothing was lost."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part == 0, 0, part / whole)


def _where_known(before: F8 | F4, after: F8 | F4, value: Array) -> F8:
    return np.where(np.isfinite(before) & np.isfinite(after), value, np.nan)
