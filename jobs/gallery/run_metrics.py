"""What was measured of a run's maps, as its report shows it: figures, distributions, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.errors import RunDirectoryError, ShardcamError
from shardcam.engine.evaluation.metric import Figure, is_mean
from shardcam.engine.evaluation.paired_images import PairedMetrics
from shardcam.engine.evaluation.summary import Result, stored_result
from shardcam.engine.types import F4, F8

BINS = 25
EXTREMES = 6  # images of each end that a file shows beside its sample
DIFFERENCE = "{}: difference"
SCORE = "Mean score"
_REMOVED = "pixels removed and filled in"
_THRESHOLD = "threshold"
_TICKS = 8  # of an axis, at most about
_FAMILIES = (  # what is on the axes, and metrics without convention or with it
    ("Insertion and deletion", "pixels inserted or deleted", SCORE, {"insertion", "deletion"}),
    ("MoRF and LeRF", _REMOVED, SCORE, {"morf", "lerf"}),
    ("MoRF and LeRF", _REMOVED, "Mean change of the score", {"morf-pgc", "lerf-pgc"}),
    ("ROAD", _REMOVED, "Mean of (LeRF - MoRF) / 2", {"road", "road-pgc"}),
    ("mIoU", _THRESHOLD, "Mean IoU", {"miou"}),
)


@dataclass(frozen=True)
class Measure:
    """A number of each row of a run, which pictures are filtered and ordered by."""

    name: str
    values: F4  # (N,K) of each class explained, NaN where there is none

    def extremes(self, count: int) -> npt.NDArray[np.intp]:
        """The rows with the lowest and the highest values, up to so many of each."""
        first = self.values[:, 0]
        order = np.argsort(first, kind="stable")[: int(np.isfinite(first).sum())]
        return np.union1d(order[:count], order[len(order) - min(count, len(order)) :])


@dataclass(frozen=True)
class Histogram:
    """How often values come, in BINS bins from `low` to `high`."""

    low: float
    high: float
    counts: list[int]
    beside: list[int] | None  # of the other run


@dataclass(frozen=True)
class Series:
    """A mean curve with its 95 % band."""

    name: str
    run: int  # 1: the other one
    colour: int  # the same for both runs
    at: F8  # (P,) shares of the pixels, or thresholds
    mean: F8
    low: F8  # (P,) NaN where there is none
    high: F8

    @property
    def best(self) -> tuple[float, float]:
        """Where the curve is highest, the first place of several, and how high."""
        place = int(self.mean.argmax())
        return float(self.at[place]), float(self.mean[place])


@dataclass(frozen=True)
class CurveChart:
    """Curves that share their axes."""

    title: str
    across: str
    of: str  # what the curves are the mean of
    series: tuple[Series, ...]

    @property
    def by_threshold(self) -> bool:
        """Whether the curves are over thresholds, of which one is best, and not over pixels."""
        return self.across == _THRESHOLD

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the vertical axis: those of a score, which a band may leave, or beyond all bands."""
        means = np.concatenate([one.mean for one in self.series])
        if self.of == SCORE and means.min() >= 0 and means.max() <= 1:
            return 0.0, 1.0
        every = np.concatenate([means, *(side for s in self.series for side in (s.low, s.high))])
        known = every[np.isfinite(every)]
        low, high = min(float(known.min()), 0.0), max(float(known.max()), 0.0)
        if low == high:
            return 0.0, 1.0
        room = 0.05 * (high - low)
        low, high = low - room * (low < 0), high + room * (high > 0)
        power = 10.0 ** np.floor(np.log10((high - low) / _TICKS))
        step = next(s * power for s in (1, 2, 5, 10) if s * power * _TICKS >= high - low)
        return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


@dataclass(frozen=True)
class Metric:
    """A metric of a run, and of the other one."""

    result: Result
    histogram: Histogram | None  # None: nothing was measured
    beside: Result | None = None
    difference: Figure | None = None  # of pairs: the other's value minus this one's
    of_images: bool = True  # the figure is the mean of what each image has

    @property
    def span(self) -> tuple[float, float]:
        """Of an axis that all figures of the metric lie on."""
        figures = [self.result.figure, *self.result.baselines.values()]
        figures += [self.beside.figure] if self.beside else []
        every = np.array([(one.value, one.low, one.high) for one in figures])
        known = every[np.isfinite(every)]
        if not len(known) or (known.min() >= 0 and known.max() <= 1):
            return 0.0, 1.0
        return min(float(known.min()), 0.0), max(float(known.max()), 0.0)


@dataclass(frozen=True)
class Evaluation:
    """All that was measured of a run, beside another one if there is one."""

    metrics: tuple[Metric, ...]
    charts: tuple[CurveChart, ...]
    baselines: tuple[str, ...]  # that some metric has a figure of
    boxes: str  # how the boxes of maps are found; empty: none are drawn


def read_metrics(run: Run) -> tuple[dict[str, Result], dict[str, F4], tuple[str, ...]]:
    """Figures and values (N,K) of each metric, and of which there are none, and why."""
    results, values, notes = dict[str, Result](), dict[str, F4](), []
    try:
        summary = run.metrics
    except ShardcamError as error:
        return {}, {}, (f"What was measured is not shown: {error}",)
    for name, stored in summary.items():
        try:
            result, found = stored_result(name, stored), run.metric(name)
            if found.shape[1] != run["target"].shape[1]:
                raise RunDirectoryError("damaged: it has values of other classes than the run")
        except ShardcamError as error:
            notes.append(f"The metric {name} is not shown: {error}")
            continue
        results[name], values[name] = result, found
    return results, values, tuple(notes)


def make_evaluation(
    names: Sequence[str],
    results: Sequence[Mapping[str, Result]],
    values: Sequence[Mapping[str, F4]],
    paired: PairedMetrics | None,
    boxes: str,
) -> Evaluation | None:
    """Of one run, or of two; None where nothing was measured of the first."""
    if not results[0]:
        return None
    others = results[1] if len(results) > 1 else {}
    metrics = tuple(
        Metric(
            result,
            _histogram([one[name] for one in values if name in one]),
            others.get(name),
            paired.figures.get(name) if paired else None,
            is_mean(result.figure.value, values[0][name]),
        )
        for name, result in results[0].items()
    )
    known = dict.fromkeys(
        name
        for result in results[0].values()
        for name, figure in result.baselines.items()
        if np.isfinite(figure.value)
    )
    return Evaluation(metrics, tuple(charts_of(names, results)), tuple(known), boxes)


def _histogram(values: Sequence[F4]) -> Histogram | None:
    """Of the first, in the bins that hold both."""
    finite = [one[np.isfinite(one)].astype(np.float64) for one in values]
    if not len(finite[0]):
        return None
    every = np.concatenate(finite)
    low, high = float(every.min()), float(every.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    counts = [np.histogram(one, BINS, (low, high))[0].tolist() for one in finite]
    return Histogram(low, high, counts[0], counts[1] if len(counts) > 1 else None)


def charts_of(names: Sequence[str], results: Sequence[Mapping[str, Result]]) -> list[CurveChart]:
    """The mean curves of the metrics of one run, or of two."""
    charts = []
    for title, across, of, family in _FAMILIES:
        series = [
            Series(name if len(results) == 1 else f"{name}, {names[run]}", run, colour % 6, *curve)
            for colour, name in enumerate(
                n for n in results[0] if _family(n.partition("@")[0]) is family
            )
            for run, found in enumerate(results)
            if name in found and (curve := curve_of(found[name].figure))
        ]
        if series:
            charts.append(CurveChart(title, across, of, tuple(series)))
    return charts


def _family(name: str) -> set[str] | None:
    """That of a metric's own convention, else that of all of them."""
    for known in (name, name.partition("-")[0]):
        for *_, family in _FAMILIES:
            if known in family:
                return family
    return None


def curve_of(figure: Figure) -> tuple[F8, F8, F8, F8] | None:
    """(P,) where the curve has points, and mean, low and high there; None: there is no curve.

    It has them at shares of the pixels, or where it is a mean alone, at thresholds from 0 to 1.
    """
    curve: Any = figure.details.get("curve")
    try:
        if isinstance(curve, list | np.ndarray):
            curve = {"mean": curve} | dict.fromkeys(("low", "high"), [np.nan] * len(curve))
        mean, low, high = (_numbers(curve[name]) for name in ("mean", "low", "high"))
        at = _numbers(curve["at"]) if "at" in curve else np.linspace(0, 1, len(mean))
    except (KeyError, TypeError, ValueError):
        return None
    same = len(at) == len(mean) == len(low) == len(high) > 1
    return (at, mean, low, high) if same and np.isfinite([*at, *mean]).all() else None


def _numbers(values: Any) -> F8:
    found = np.array(values, np.float64)  # null becomes NaN
    if found.ndim != 1:
        raise ValueError("no list of numbers")
    return found
