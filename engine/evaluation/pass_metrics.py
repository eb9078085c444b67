"""Metrics that ask the network about changed pictures: one more pass of each, or tens.

p is the score of a class, by the network's link, and p' that of the changed picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.explained_pairs import (
    PGC,
    SIGNED,
    UNIT,
    XPLIQUE,
    Pairs,
    enlarged,
)
from shardcam.engine.evaluation.intervals import Z95, wilson
from shardcam.engine.evaluation.metric import (
    Array,
    Figure,
    ImageRows,
    Measured,
    Merged,
    Reason,
    mean_figure,
)
from shardcam.engine.evaluation.passes import Passes
from shardcam.engine.types import F4, NO_CLASS

F8 = npt.NDArray[np.float64]
Columns = dict[str, F4]  # (P,...) each

_MASKS = {
    UNIT: "image times map, rectified and stretched at its own resolution, bilinear",
    PGC: "image times pytorch-grad-cam's heatmap",
    XPLIQUE: "image times map, rectified, bilinear, stretched with 1e-8",
}
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


@runtime_checkable
class PassMetric(Protocol):
    """A metric of what the network makes of changed pictures."""

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> str:
        """One line that says how it is measured."""

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def needs_truth(self) -> bool: ...

    @property
    def explained(self) -> str | None:
        """The mask of the pictures whose maps it asks for, and not only their scores."""

    def of(self, pairs: Pairs) -> tuple[F8 | F4, Columns]:
        """(P,) values, NaN where the score is no usable one, and more columns."""

    def figure(self, merged: Merged) -> Figure:
        """Of the whole run."""


@dataclass(frozen=True)
class _Base:
    """What metrics of passes have in common."""

    name: str
    needs_truth: ClassVar[bool] = False
    share: ClassVar[bool] = False  # whether it is from 0 to 1 with any network

    @property
    def explained(self) -> str | None:
        return None

    def figure(self, merged: Merged) -> Figure:
        return mean_figure(merged, self.share)


@dataclass(frozen=True)
class ScoreChange(_Base):
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
class Coherency(_Base):
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
class Adcc(_Base):
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
class Arcc(_Base):
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


@dataclass(frozen=True)
class Curve(_Base):
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
class Road(_Base):
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


def measure_passes(
    metrics: Sequence[PassMetric],
    pictures: F4,
    maps: F4,
    rows: ImageRows,
    passes: Passes,
    seed: int = 0,
) -> dict[str, Measured]:
    """Measure a batch of images, or more: what metrics have in common is computed once.

    Parameters
    ----------
    metrics
        Of different names.
    pictures : (n,C,H,W) float32
        What the network is given of the images, normalised.
    maps : (n,K,h,w) float32
        Raw signed maps of one layer, NaN where there is none.
    rows
        What the run says of the images; of them its targets, scores and samples are used.
    passes
        Of the run's network.
    seed
        Of the noise.

    Returns
    -------
    dict
        By the metrics' names.
    """
    reason = _reasons(maps, rows)
    found = {one.name: Measured(_nan(reason.shape), reason.copy()) for one in metrics}
    columns: dict[str, dict[str, Array]] = {name: {} for name in found}
    every = np.argwhere(reason == Reason.MEASURED)
    explained = frozenset(one.explained for one in metrics if one.explained is not None)
    for start in range(0, len(every), passes.rows):
        image, column = every[start : start + passes.rows].T
        seen, picture = np.unique(image, return_inverse=True)
        pairs = Pairs(
            passes,
            pictures[seen],
            picture.astype(np.int64).reshape(-1),
            rows.sample[image],
            np.ascontiguousarray(maps[image, column]),
            rows.target[image, column],
            rows.score[image, column],
            seed,
            explained,
        )
        for one in metrics:
            value, more = one.of(pairs)
            found[one.name].value[image, column] = value
            for name, values in more.items():
                shape = *reason.shape, *values.shape[1:]
                columns[one.name].setdefault(name, _nan(shape))[image, column] = values
    for measured in found.values():
        missing = (measured.reason == Reason.MEASURED) & ~np.isfinite(measured.value)
        measured.reason[missing] = Reason.NO_SCORE
    return {name: replace(one, columns=columns[name]) for name, one in found.items()}


def _reasons(maps: F4, rows: ImageRows) -> npt.NDArray[np.uint8]:
    """(n,K) why a class of an image cannot be measured."""
    with np.errstate(invalid="ignore"):
        positive = np.maximum(maps, 0)
        flat = ~(positive.max(axis=(2, 3)) > positive.min(axis=(2, 3)))
    flat |= ~np.isfinite(maps).all(axis=(2, 3))
    reason = np.where(flat, np.uint8(Reason.NO_MAP), np.uint8(Reason.MEASURED))
    reason[(reason == Reason.MEASURED) & ~np.isfinite(rows.score)] = Reason.NO_SCORE
    reason[rows.target == NO_CLASS] = Reason.NO_CLASS
    return reason


def _added(epsilon: float) -> str:
    return f" + {epsilon:.0e}".replace("e-0", "e-") if epsilon else ""


def _nan(shape: tuple[int, ...]) -> F4:
    return np.full(shape, np.nan, np.float32)


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


def area_under(scores: F4, fractions: F8) -> F8:
    """(P,points), (points) -> (P,) by trapezoids."""
    middle = (scores[:, 1:].astype(np.float64) + scores[:, :-1]) / 2
    found: F8 = middle @ np.diff(fractions)
    return found


def _quotient(part: F8, whole: F8) -> F8:
    """0 of 0 is 0: nothing was lost."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part == 0, 0, part / whole)


def _where_known(before: F8 | F4, after: F8 | F4, value: Array) -> F8:
    return np.where(np.isfinite(before) & np.isfinite(after), value, np.nan)


def _with_curve(figure: Figure, merged: Merged, at: tuple[float, ...] = ()) -> Figure:
    """With the mean of the curves, point by point, and its 95 % interval.

    `at` are the shares of pixels that are changed; points evenly from 0 to 1 need none.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for block in merged.column("curve"):
        values = block.astype(np.float64)
        count += len(values)
        total, squares = total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    if count < 1:
        return figure
    mean = total / count
    spread = np.full_like(mean, np.nan)
    if count > 1:
        variance = np.maximum(squares - count * mean**2, 0) / (count - 1)
        spread = Z95 * np.sqrt(variance / count)
    curve = {"mean": mean, "low": mean - spread, "high": mean + spread}
    lists = {name: values.tolist() for name, values in curve.items()}
    details = {**figure.details, "curve": lists | ({"at": list(at)} if at else {})}
    return Figure(figure.value, figure.low, figure.high, figure.n, details)


def _torchcam(name: str) -> Curve:
    return Curve(
        f"{name}:torchcam",
        name == "insertion",
        ties="rising",
        steps="20 steps",
        blurs=False,
        true_fractions=True,
    )


_EACH_TEN = tuple(range(10, 100, 10))

_ALL: tuple[PassMetric, ...] = (
    ScoreChange("average_drop", "drop"),
    ScoreChange("average_drop:torchcam", "drop", epsilon=1e-7),
    ScoreChange("average_drop:pgc", "drop", PGC, absolute=True),
    ScoreChange("average_drop:xplique", "drop", XPLIQUE, epsilon=1e-8),
    ScoreChange("average_increase", "increase"),
    ScoreChange("average_increase:pgc", "increase", PGC),
    ScoreChange("average_increase:xplique", "increase", XPLIQUE),
    ScoreChange("average_gain", "gain"),
    ScoreChange("average_gain:xplique", "gain", XPLIQUE, epsilon=1e-8),
    Coherency("coherency"),
    Coherency("coherency:pgc", PGC, epsilon=1e-8),
    Adcc("adcc"),
    Arcc("arcc"),
    *(
        metric
        for name in ("insertion", "deletion")
        for metric in (
            Curve(name, name == "insertion"),
            Curve(f"{name}:row", name == "insertion", steps="1 row a step"),
            Curve(f"{name}:signed", name == "insertion", SIGNED),
            _torchcam(name),
            Curve(f"{name}:xplique", name == "insertion", XPLIQUE, steps="11 points", blurs=False),
        )
    ),
    *(
        metric
        for name in ("morf", "lerf", "road")
        for metric in (
            Road(name, name),
            Road(f"{name}:pgc", name, _EACH_TEN, PGC, pixels=False, change=name != "road"),
        )
    ),
)
PASS_METRICS: Mapping[str, PassMetric] = {one.name: one for one in _ALL}
"""Those that are known, by name."""
