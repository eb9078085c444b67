"""Figures of metrics and of comparisons, drawn into PNG files. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from shardcam.engine.errors import ConfigError, needs
from shardcam.engine.evaluation.layer_similarity import Similarity
from shardcam.engine.evaluation.likeness import Comparison
from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.evaluation.summary import Result
from shardcam.engine.io.plain_text import printable
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.types import counted
from shardcam.jobs.gallery.run_metrics import CurveChart, charts_of
from shardcam.jobs.wording import LIKENESS_WORDS

_COLUMNS = 3  # charts beside one another
_RUN, _BASELINE = "#0b6b75", "#a9b4bf"
_LONGEST = 32  # letters of a name
_DPI = 120
_IN_CELLS = 16  # representations up to which a matrix has numbers


def require_plot(path: Path, endings: tuple[str, ...] = (".png",)) -> None:
    """Refuse a plot before anything is computed for it.

    Raises
    ------
    ConfigError
        Its name does not end as one of those files, or matplotlib is not installed.
    """
    if path.suffix.lower() not in endings:
        raise ConfigError(f"--plot {path}: give it a name that ends in {' or '.join(endings)}")
    if find_spec("matplotlib") is None:
        raise ConfigError(f"--plot {path}: {needs('matplotlib')}")


def draw_evaluation(results: Mapping[str, Result], path: Path) -> None:
    """Draw each metric's figure and its baselines with 95 % intervals, and the mean curves."""
    curves = charts_of(("run",), (results,))
    tallest = 1 + max(len(one.baselines) for one in results.values())
    rows, curve_rows = ceil(len(results) / _COLUMNS), ceil(len(curves) / 2)
    heights = [rows * (0.75 + 0.27 * tallest), *([3.2 * curve_rows] if curves else [])]
    figure = _figure(11, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    grid = parts[0].subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, result in zip(grid, results.values(), strict=False):
        _draw_bars(axis, result)
    for axis in grid[len(results) :]:
        axis.set_axis_off()
    if curves:
        grid = parts[1].subplots(curve_rows, 2, squeeze=False).ravel()
        for axis, chart in zip(grid, curves, strict=False):
            _draw_curves(axis, chart)
        for axis in grid[len(curves) :]:
            axis.set_axis_off()
    _save(figure, path)


def draw_comparisons(found: Sequence[Comparison], path: Path) -> None:
    """Draw how alike maps are, and the differences of metrics, with 95 % intervals."""
    groups: list[tuple[str, dict[str, dict[str, Figure]]]] = []
    for number in range(max(len(one.layers) for one in found)):
        layers = {_label(one): one.layers[number] for one in found if number < len(one.layers)}
        name = next(iter(layers.values())).layer
        alike = {
            words: {other: one.figures[measure] for other, one in layers.items()}
            for measure, words in LIKENESS_WORDS.items()
        }
        groups.append((f"likeness of maps of {_short(name)}", alike))
    names = dict.fromkeys(name for one in found for name in one.metrics)
    metrics = {
        name + ", of images" * any(name in one.of_images for one in found): {
            _label(one): one.metrics[name] for one in found if name in one.metrics
        }
        for name in names
    }
    if metrics:
        groups.append((f"difference from {_short(found[0].reference)}", metrics))
    heights = [1.0 + 0.3 * len(rows) * max(len(found), 1) for _, rows in groups]
    figure = _figure(8, sum(heights))
    axes = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, rows) in zip(axes, groups, strict=True):
        _draw_dots(axis, title, rows, [_label(one) for one in found], rows is metrics)
    axes[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.12), borderaxespad=0)
    _save(figure, path)


def draw_similarity(found: Similarity, path: Path) -> None:
    """Draw a matrix for each measure."""
    names, count = [_short(name) for name in found.names], len(found.names)
    side = 2.5 + 0.45 * count
    figure = _figure(side * len(found.values) + 0.5, side)
    for axis, (measure, values) in zip(
        figure.subplots(1, len(found.values), squeeze=False)[0], found.values.items(), strict=True
    ):
        low = float(np.nanmin(values, initial=0))
        drawn = axis.imshow(values, cmap="viridis", vmin=low, vmax=1)
        for i, j in np.ndindex(values.shape) if count <= _IN_CELLS else ():
            dark = values[i, j] < (low + 1) / 2
            text = "-" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
        axis.set_xticks(range(count), names, rotation=45, ha="right")
        axis.set_yticks(range(count), names)
        axis.set_title(f"{measure} ({counted(found.compared[measure], 'image')})", fontsize=9)
        figure.colorbar(drawn, ax=axis, shrink=0.7).ax.tick_params(labelsize=8)
        _tidy(axis)
    _save(figure, path)


def _draw_bars(axis: Any, result: Result) -> None:
    figures = {"run": result.figure, **result.baselines}
    places = np.arange(len(figures))[::-1]
    values = np.array([one.value for one in figures.values()])
    colours = [_RUN, *[_BASELINE] * len(result.baselines)]
    axis.barh(places, np.nan_to_num(values), color=colours, height=0.7)
    axis.errorbar(
        values, places, xerr=_reach(list(figures.values())), fmt="none", ecolor="#222", capsize=2
    )
    axis.set_yticks(places, [_short(name) for name in figures], fontsize=8)
    for place, one in zip(places, figures.values(), strict=True):
        if np.isnan(one.value):
            axis.text(0.01, place, "none", va="center", fontsize=8, color="grey")
    known = [v for one in figures.values() for v in (one.value, one.low, one.high) if v == v]
    if not known or (min(known) >= 0 and max(known) <= 1):
        axis.set_xlim(0, 1)
    better = {True: ", higher is better", False: ", lower is better", None: ""}
    axis.set_title(
        f"{_short(result.name)} ({result.figure.n}{better[result.higher_is_better]})",
        fontsize=9,
        loc="left",
    )
    _tidy(axis)


def _draw_curves(axis: Any, chart: CurveChart) -> None:
    scale = 1 if chart.by_threshold else 100
    for one in chart.series:
        (drawn,) = axis.plot(scale * one.at, one.mean, label=_short(one.name))
        band = scale * one.at, one.low, one.high
        axis.fill_between(*band, color=drawn.get_color(), alpha=0.2)
        if chart.by_threshold:
            at, best = one.best
            axis.plot(at, best, "o", color=drawn.get_color(), label=f"best: {best:.4g} at {at:g}")
    axis.set_ylim(*chart.bounds)
    axis.set_xlim(0, scale)
    axis.set_xlabel(chart.across if chart.by_threshold else f"% of {chart.across}", fontsize=9)
    axis.set_ylabel(chart.of, fontsize=9)
    axis.set_title(chart.title, fontsize=9, loc="left")
    axis.legend(fontsize=8)
    _tidy(axis)


def _draw_dots(
    axis: Any,
    title: str,
    rows: Mapping[str, Mapping[str, Figure]],
    others: Sequence[str],
    differences: bool,
) -> None:
    places = np.arange(len(rows))[::-1].astype(float)
    shift = 0.6 / max(len(others), 1)
    for number, other in enumerate(others):
        nothing = Figure(float("nan"), float("nan"), float("nan"), 0)
        figures = [figures.get(other, nothing) for figures in rows.values()]
        axis.errorbar(
            [one.value for one in figures],
            places + 0.3 - shift * (number + 0.5),
            xerr=_reach(figures),
            fmt="o",
            markersize=4,
            capsize=2,
            label=other,
        )
    if differences:
        axis.axvline(0, color="grey", linewidth=0.5)
    axis.set_yticks(places, [_short(name) for name in rows], fontsize=8)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_title(title, fontsize=9, loc="left")
    _tidy(axis)


def _reach(figures: Sequence[Figure]) -> Any:
    """(2,n) how far intervals go to both sides; NaN where there is none."""
    sides = np.array([(one.value - one.low, one.high - one.value) for one in figures]).T
    return np.maximum(sides, 0)  # Wilson's interval does not hold a share of 0 or 1


def _label(comparison: Comparison) -> str:
    return _short(comparison.other)


def _short(name: str) -> str:
    """A name as a label: without control characters, its end, and as no formula."""
    text = printable(name)
    text = text if len(text) <= _LONGEST else "\N{HORIZONTAL ELLIPSIS}" + text[1 - _LONGEST :]
    return text.replace("$", r"\$")


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with whole_file(path) as stream:
        figure.savefig(stream, format="png", dpi=_DPI)
