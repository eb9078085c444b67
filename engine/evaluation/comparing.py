"""The comparison of two runs, block by block."""

from __future__ import annotations

import csv
import heapq
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.grid_rows import GridRows
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.likeness import LEAST, MEASURES, Comparison, Likeness, finite
from shardcam.engine.evaluation.metric import is_mean
from shardcam.engine.evaluation.paired_images import ImagePairs, differences_of, image_pairs
from shardcam.engine.evaluation.running_mean import RunningMean
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F4, F8, NO_CLASS, Note, counted
from shardcam.kernels import similarity, ssim, upsample
from shardcam.kernels.map_similarity import WINDOW

Array = npt.NDArray[Any]
_ENLARGED = 1 << 20  # pixels of each run's maps that a thread holds enlarged
_SAME_CROP = 0.5  # pixels


class PairTable:
    """``images.csv``, written as it comes; without a stream nothing is.

    `metrics` have columns: those of all comparisons that the file is of.
    """

    def __init__(self, stream: BinaryIO | None, begun: bool, metrics: Sequence[str]) -> None:
        self._stream, self._begun, self.metrics = stream, begun, metrics

    @property
    def wanted(self) -> bool:
        return self._stream is not None

    def write(self, rows: Iterator[dict[str, Any]]) -> None:
        if self._stream is None:
            return
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for row in rows:
            if not self._begun:
                table.writerow(row)
                self._begun = True
            table.writerow(row.values())
        self._stream.write(text.getvalue().encode())


@dataclass
class _Layer:
    """What was found so far of a pair of layers."""

    names: tuple[str, str]
    means: dict[str, RunningMean] = field(
        default_factory=lambda: {name: RunningMean() for name in MEASURES}
    )
    left_out: int = 0
    worst: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)  # a heap


class RunComparison:
    """The comparison of two runs, as far as it is."""

    def __init__(
        self,
        names: tuple[str, str],
        runs: tuple[Run, Run],
        asked: tuple[str, str] | None,
        by_class: bool,
        worst: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._names, self._runs, self._by_class = names, runs, by_class
        self._worst, self._pool = worst, pool
        self._layers = [_Layer(pair) for pair in _layer_pairs(names, runs, asked)]
        self._size = np.array(_view_size(names[0]))
        alike, self._unlike = common_metrics(names, (runs[0].metrics, runs[1].metrics))
        self._metrics = {name: RunningMean() for name in alike}
        self._agreeing = RunningMean()
        self._counts: Counter[str] = Counter()
        self._order = count()

    def run(self, rows: PairTable, on_images: Callable[[int], None]) -> Comparison:
        reference, other = self._runs
        for _, block in image_pairs(reference, other, self._by_class):
            self._add(block, rows)
            on_images(self._counts["images"])
        if not self._counts["images"]:
            raise ConfigError(
                f"{self._names[0]} and {self._names[1]} share no image: keys such as "
                f"{_example(reference)} there and {_example(other)} here"
            )
        return Comparison(
            reference=self._names[0],
            other=self._names[1],
            images=self._counts["images"],
            only_reference=len(reference) - self._counts["images"],
            only_other=len(other) - self._counts["images"],
            without_pair=self._counts["without_pair"],
            first_class_equal=self._agreeing.share(),
            layers=tuple(map(_likeness, self._layers)),
            metrics={name: mean.figure() for name, mean in self._metrics.items()},
            of_images=tuple(name for name in self._metrics if self._of_set(name)),
            notes=tuple(self._notes()),
        )

    def _of_set(self, metric: str) -> bool:
        """Whether the figure of a metric is one of the whole data set."""
        run = self._runs[0]
        figure = run.metrics[metric].get("mean")
        return figure is not None and not is_mean(figure, run.metric(metric))

    def _add(self, block: ImagePairs, rows: PairTable) -> None:
        (here, there), (image, k, other_k) = block.rows, block.pairs
        other = self._runs[1]
        self._counts["images"] += len(here)
        self._counts["without_pair"] += len(here) - len(np.unique(image))
        agreeing = self._compare_classes(block)
        crops = block.part["crop"][here] - other["crop"][there]
        self._counts["crop"] += int((abs(crops).max(axis=1) > _SAME_CROP).sum())
        differences = differences_of(block, other, self._metrics)
        for name, mean in self._metrics.items():
            mean.add(differences[name])
        for layer in self._layers:
            maps = block.part.cam(layer.names[0])
            mine, theirs = maps[here], other.cam(layer.names[1])[there]
            found = self._measured(
                [(mine[i][at], theirs[i][to]) for i, at, to in zip(image, k, other_k, strict=True)],
                maps.view_sizes(here)[image] if isinstance(maps, GridRows) else self._size,
            )
            self._add_layer(layer, found, block)
            if rows.wanted:
                rows.write(self._table(layer, found, block, agreeing, differences, rows.metrics))

    def _compare_classes(self, block: ImagePairs) -> Array:
        """(n,) 1.0 where both runs predict the same class, 0.0 where not, NaN without a class."""
        here, there = block.rows
        mine = block.part["top_class"][here, 0]
        theirs = self._runs[1]["top_class"][there, 0]
        known = (mine != NO_CLASS) & (theirs != NO_CLASS)
        agreeing = np.where(known, (mine == theirs).astype(np.float64), np.nan)
        self._agreeing.add(agreeing)
        return agreeing

    def _measured(self, pairs: list[tuple[F4, F4]], view: Array) -> F8:
        """M pairs of maps, (M,2) H and W of the views -> (M,measures)."""
        shapes = np.array([(*mine.shape, *theirs.shape) for mine, theirs in pairs]).reshape(-1, 4)
        sizes = np.column_stack([shapes, np.broadcast_to(view, (len(pairs), 2))])
        kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
        parts = []
        for number, (*_, height, width) in enumerate(kinds.tolist()):
            places, step = np.flatnonzero(kind == number), max(1, _ENLARGED // (height * width))
            parts += [(places[i : i + step], (height, width)) for i in range(0, len(places), step)]
        found = np.empty((len(pairs), len(MEASURES)))
        alike = self._pool.map(lambda part: _measure([pairs[i] for i in part[0]], part[1]), parts)
        for (places, _), values in zip(parts, alike, strict=True):
            found[places] = values
        return found

    def _add_layer(self, layer: _Layer, found: F8, block: ImagePairs) -> None:
        for values, mean in zip(found.T, layer.means.values(), strict=True):
            mean.add(values)
        spearman = found[:, list(MEASURES).index("spearman")]
        layer.left_out += int(np.isnan(spearman).sum())
        for at in np.flatnonzero(~np.isnan(spearman)):
            full = len(layer.worst) >= self._worst
            if full and (not layer.worst or -spearman[at] <= layer.worst[0][0]):
                continue
            row = {"key": block.keys[block.pairs[0][at]], "class": int(block.classes[at])}
            row |= dict(zip(MEASURES, map(finite, found[at]), strict=True))
            heapq.heappush(layer.worst, (-float(spearman[at]), -next(self._order), row))
            if len(layer.worst) > self._worst:
                heapq.heappop(layer.worst)

    def _table(
        self,
        layer: _Layer,
        found: F8,
        block: ImagePairs,
        agreeing: Array,
        differences: dict[str, F8],
        metrics: Sequence[str],
    ) -> Iterator[dict[str, Any]]:
        for at, image in enumerate(block.pairs[0].tolist()):
            same = agreeing[image]
            yield {
                "reference": self._names[0],
                "other": self._names[1],
                "key": block.keys[image],
                "class": int(block.classes[at]),
                "layer": layer.names[0],
                "other_layer": layer.names[1],
                **dict(zip(MEASURES, map(finite, found[at]), strict=True)),
                "first_class_equal": "" if np.isnan(same) else int(same),
                **{
                    f"{name}_difference": finite(differences[name][at])
                    if name in differences
                    else None
                    for name in metrics
                },
            }

    def _notes(self) -> Iterator[Note]:
        if self._unlike:
            names = ", ".join(self._unlike)
            yield Note(
                "left out",
                f"metrics measured in different ways, or by other truths: {names}",
            )
        if apart := self._counts["crop"]:
            yield Note(
                "warning",
                f"the networks saw other parts of {counted(apart, 'image')}: --resize or the shape "
                "of the input differs, and the maps are compared as if it did not",
            )
        if self._counts["without_pair"]:
            images = counted(self._counts["without_pair"], "image")
            yield Note(
                "left out",
                f"{images} without a class that both runs explain; --target from:RUN explains "
                "those of another run",
            )
        if left := sum(layer.left_out for layer in self._layers):
            yield Note("left out", f"{counted(left, 'pair')} with a constant or non-finite map")


def _measure(pairs: list[tuple[F4, F4]], view: tuple[int, int]) -> F8:
    """M pairs of maps (h,w) and (h',w') -> (M,measures), in the order of `MEASURES`."""
    maps = [np.stack(one) for one in zip(*pairs, strict=True)]
    size = max(one.shape[1] for one in maps), max(one.shape[2] for one in maps)
    first, second = (one if one.shape[1:] == size else upsample(one, size) for one in maps)
    alike = similarity(first, second)
    large = max(view[0], size[0], WINDOW), max(view[1], size[1], WINDOW)
    structure = ssim(*(upsample(one, large) for one in maps))
    return np.column_stack([alike[:, :3], structure, alike[:, 3]])


def _layer_pairs(
    names: tuple[str, str], runs: tuple[Run, Run], asked: tuple[str, str] | None
) -> list[tuple[str, str]]:
    for name, run in zip(names, runs, strict=True):
        if not run.layers:
            raise ConfigError(f"{name}: has no maps; extract with --save maps")
    if asked is not None:
        for name, run, layer in zip(names, runs, asked, strict=True):
            if layer_path(layer) not in run.layers:
                known = ", ".join(run.layers)
                raise ConfigError(f"--layer {layer}: {name} has no maps of it; it has {known}")
        return [(layer_path(asked[0]), layer_path(asked[1]))]
    common = [(layer, layer) for layer in runs[0].layers if layer in runs[1].layers]
    return common or [(runs[0].layers[0], runs[1].layers[0])]


def common_metrics(
    names: tuple[str, str], metrics: tuple[Collection[str], Collection[str]]
) -> tuple[list[str], list[str]]:
    """Those that two runs have measured in the same way, and in different ways."""
    common = [name for name in metrics[0] if name in metrics[1]]
    unlike = [name for name in common if len({_how_measured(run, name) for run in names}) > 1]
    return [name for name in common if name not in unlike], unlike


def _how_measured(run: str, metric: str) -> tuple[str, Any]:
    """What must be the same of two runs for a difference of their values to mean anything."""
    manifest = MetricResults(RunDir.open(run), metric).manifest()
    return manifest.convention, manifest.numbers.get("truth")


def _view_size(run: str) -> tuple[int, int]:
    preprocessing = read_manifest(RunDir.open(run)).numbers["preprocessing"]
    return int(preprocessing["height"]), int(preprocessing["width"])


def _likeness(layer: _Layer) -> Likeness:
    ordered = sorted(layer.worst, key=lambda one: (-one[0], -one[1]))
    return Likeness(
        *layer.names,
        figures={n: mean.figure(LEAST.get(n, -1), 1) for n, mean in layer.means.items()},
        left_out=layer.left_out,
        worst=tuple(row for _, _, row in ordered),
    )


def _example(run: Run) -> str:
    return repr(run.take(0).keys[0]) if len(run) else "none"
