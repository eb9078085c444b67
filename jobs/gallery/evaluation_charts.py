"""Where the lines of the charts of an evaluation go, in the units of their drawings."""

from __future__ import annotations

import numpy as np

from shardcam.engine.types import F8
from shardcam.jobs.gallery.run_metrics import BINS, CurveChart, Histogram, Metric, Series

LEFT, RIGHT, TOP, BOTTOM = 34, 410, 14, 170  # of the plane of a chart, in a drawing of 420 x 205


def line(chart: CurveChart, series: Series) -> str:
    """The points of a mean curve."""
    return _points(_x(series.at), _y(chart, series.mean))


def band(chart: CurveChart, series: Series) -> str:
    """The corners of its band; empty where there is none."""
    known = np.isfinite(series.low) & np.isfinite(series.high)
    if not known.any():
        return ""
    x = _x(series.at[known])
    low, high = _y(chart, series.low[known]), _y(chart, series.high[known])
    return _points(np.r_[x, x[::-1]], np.r_[low, high[::-1]])


def mark(chart: CurveChart, series: Series) -> tuple[float, float]:
    """Where the highest point of a curve is."""
    at, best = series.best
    return float(_x(np.array(at))), float(_y(chart, np.array(best)))


def bars(histogram: Histogram) -> list[tuple[float, float, float, int]]:
    """Left edge, top, height and count of each bar that is not empty."""
    tops = _tops(histogram, histogram.counts)
    width = (RIGHT - LEFT) / BINS
    every = zip(range(BINS), tops.tolist(), histogram.counts, strict=True)
    return [(LEFT + i * width, top, BOTTOM - top, count) for i, top, count in every if count]


def outline(histogram: Histogram) -> str:
    """The steps of the other run's bars; empty where there is none."""
    if histogram.beside is None:
        return ""
    x = np.linspace(LEFT, RIGHT, BINS + 1)
    y = np.r_[BOTTOM, np.repeat(_tops(histogram, histogram.beside), 2), BOTTOM]
    return _points(np.repeat(x, 2), y)


def share(metric: Metric, value: float) -> float:
    """Where a figure is on the metric's axis, in percent of its length."""
    low, high = metric.span
    return float(100 * (value - low) / ((high - low) or 1))


def _tops(histogram: Histogram, counts: list[int]) -> F8:
    """As shares of all, so that runs of which different numbers were measured can be compared."""
    tallest = max(
        max(some) / max(sum(some), 1) for some in (histogram.counts, histogram.beside or [0])
    )
    share = np.asarray(counts, np.float64) / (max(sum(counts), 1) * (tallest or 1))
    tops: F8 = np.asarray(BOTTOM - share * (BOTTOM - TOP - 8), np.float64)
    return tops


def _x(at: F8) -> F8:
    found: F8 = np.asarray(LEFT + at.clip(0, 1) * (RIGHT - LEFT), np.float64)
    return found


def _y(chart: CurveChart, values: F8) -> F8:
    low, high = chart.bounds
    share = ((values - low) / (high - low)).clip(0, 1)
    found: F8 = np.asarray(BOTTOM - share * (BOTTOM - TOP), np.float64)
    return found


def _points(x: F8, y: F8) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
