"""How alike the maps of runs are, image by image: ``shardcam compare``."""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, repeat
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.intervals import Z95
from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.io.urls import is_url
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import F4, NO_CLASS, Note, counted
from shardcam.engine.workers.cores import usable_cores
from shardcam.kernels import similarity, ssim, upsample
from shardcam.kernels.map_similarity import WINDOW

Array = npt.NDArray[Any]
F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

MEASURES = {
    "pearson": "Pearson's correlation of the values",
    "spearman": "Spearman's rank correlation, ties sharing the mean of their ranks",
    "spearman_abs": "Spearman's rank correlation of the absolute values",
    "ssim": "structural similarity as in scikit-image with gaussian_weights=True and "
    "data_range=1, of maps enlarged to the network's input and moved to [0, 1]",
    "iou_top20": "intersection over union of the highest 20 % of the pixels",
}
MATCHES = ("class", "position")
FILES = COMPARISON, IMAGES = "compare.json", "images.csv"  # of the folder that is asked for
TOGETHER = 128  # images whose maps are held at once
_ENLARGED = 16  # pairs of maps that a thread holds enlarged
_SAME_CROP = 0.5  # pixels


@dataclass(frozen=True)
class Likeness:
    """How alike the maps of one layer of two runs are."""

    layer: str
    other_layer: str
    figures: dict[str, Figure]  # by the names of `MEASURES`: means over pairs of maps
    left_out: int  # pairs of which a map is constant or not finite
    worst: tuple[dict[str, Any], ...]  # pairs with the lowest Spearman, the lowest first


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    reference: str
    other: str
    images: int  # with a key that both runs have
    only_reference: int
    only_other: int
    without_pair: int  # of the images, those without a class that both explain
    first_class_equal: Figure  # share of the images whose predicted class both agree on
    layers: tuple[Likeness, ...]
    metrics: dict[str, Figure]  # the other's value minus the reference's, of the same maps
    notes: tuple[Note, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As ``compare.json`` has it; what is not a number is null there."""
        return {
            "reference": self.reference,
            "other": self.other,
            "images": self.images,
            "only_reference": self.only_reference,
            "only_other": self.only_other,
            "without_pair": self.without_pair,
            "first_class_equal": _figure_json(self.first_class_equal),
            "layers": [
                {
                    "layer": one.layer,
                    "other_layer": one.other_layer,
                    "left_out": one.left_out,
                    **{name: _figure_json(figure) for name, figure in one.figures.items()},
                    "worst": list(one.worst),
                }
                for one in self.layers
            ],
            "metrics": {name: _figure_json(one) for name, one in self.metrics.items()},
            "notes": [note.text for note in self.notes],
        }


@dataclass(frozen=True)
class PairedMetrics:
    """What was measured of two runs, image by image; N rows of the reference."""

    rows: I8  # (N,) of the other with the same key, -1 where there is none
    first: dict[str, F4]  # (N,) the other's value minus the reference's, of its first class
    figures: dict[str, Figure]  # the same of all classes that both explain, as `Comparison.metrics`


def compare(
    reference: str | PathLike[str],
    *others: str | PathLike[str],
    layer: str | Sequence[str] | None = None,
    match: str = "class",
    worst: int = 10,
    out: str | PathLike[str] | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> list[Comparison]:
    """Compare the maps of runs with those of the first, for the images that they share.

    Images are matched by key, maps by layer and class. Where two layers differ in size, both maps
    are enlarged bilinearly to the larger height and width first. Runs are read shard by shard:
    memory holds 16 bytes for each image of a run, and some maps.

    Parameters
    ----------
    reference, others
        Run directories, or their URLs.
    layer
        One name for all runs, or one for each; by default all layers whose names both runs have,
        else the first layer of each.
    match
        ``"class"``: maps of the same class number; ``"position"``: the first explained class of
        one run with the first of the other, and so on, for networks that number classes
        differently.
    worst
        How many of the least alike maps to list.
    out
        Folder to write ``compare.json`` and ``images.csv``, a row for each pair of maps, into.
    on_images
        Is called with the number of images done so far, of each comparison.

    Returns
    -------
    list of Comparison
        One for each of `others`.

    Raises
    ------
    ConfigError
        The runs share no image or no layer, or an option cannot be used.
    RunDirectoryError
        A run is damaged.
    """
    names = [fspath(run) for run in (reference, *others)]
    if len(names) < 2:
        raise ConfigError("compare: takes two runs or more")
    if match not in MATCHES:
        raise ConfigError(f"--match {match}: takes {' or '.join(MATCHES)}")
    layers = [layer] if isinstance(layer, str) else list(layer or ())
    if layers and len(layers) not in (1, len(names)):
        raise ConfigError(f"--layer: give one for all {len(names)} runs, or one for each in turn")
    layers = layers * len(names) if len(layers) == 1 else layers
    if out is not None and is_url(fspath(out)):
        raise ConfigError(f"out {fspath(out)}: takes a folder of this machine, not a URL")
    folder = Path(fspath(out)) if out is not None else None
    with ExitStack() as stack:
        stream = stack.enter_context(whole_file(folder / IMAGES)) if folder else None
        pool = stack.enter_context(ThreadPoolExecutor(usable_cores()))
        first = stack.enter_context(open_run(names[0]))
        found: list[Comparison] = []
        for number, name in enumerate(names[1:], 1):
            with open_run(name) as other:
                asked = (layers[0], layers[number]) if layers else None
                comparing = _Comparing(
                    (names[0], name), (first, other), asked, match == "class", worst, pool
                )
                found.append(comparing.run(_Rows(stream, bool(found)), on_images))
    if folder is not None:
        text = json.dumps([one.as_json() for one in found], indent=2, allow_nan=False)
        with whole_file(folder / COMPARISON) as file:
            file.write(f"{text}\n".encode())
    return found


class _Mean:
    """Mean and spread of numbers that come in blocks."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares of distances from the mean

    def add(self, values: F8) -> None:
        """Those that are not NaN."""
        values = values[~np.isnan(values)]
        if not len(values):
            return
        mean, total = float(values.mean()), self.count + len(values)
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += apart**2 * self.count * len(values) / total
        self.mean += apart * len(values) / total
        self.count = total

    def figure(self) -> Figure:
        """With a normal 95 % interval."""
        nan = float("nan")
        if not self.count:
            return Figure(nan, nan, nan, 0)
        if self.count == 1:
            return Figure(self.mean, nan, nan, 1)
        spread = Z95 * math.sqrt(self.squares / (self.count - 1) / self.count)
        return Figure(self.mean, self.mean - spread, self.mean + spread, self.count)


class _Rows:
    """``images.csv``, written as it comes; without a stream nothing is."""

    def __init__(self, stream: BinaryIO | None, begun: bool) -> None:
        self._stream, self._begun = stream, begun

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


class KeyRows:
    """Which row of a run has a key: 16 bytes for each."""

    def __init__(self, run: Run) -> None:
        parts = [_hashes(part["key"][:]) for part in run.shards()]
        hashes = np.concatenate(parts or [np.empty(0, np.uint64)])
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]
        self._keys = run["key"]

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, keys: Array) -> I8:
        """(n,) keys -> (n,) rows, -1 where there is none."""
        if not len(self):
            return np.full(len(keys), -1)
        hashes = _hashes(keys)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        rows = np.where(self._hashes[places] == hashes, self._rows[places], -1)
        found = np.flatnonzero(rows >= 0)
        rows[found[self._keys[rows[found]] != keys[found]]] = -1  # equal by their hashes alone
        return rows


def _hashes(keys: Array) -> npt.NDArray[np.uint64]:
    digests = (hashlib.blake2b(key, digest_size=8).digest() for key in keys.tolist())
    return np.frombuffer(b"".join(digests), np.uint64)


@dataclass
class _Layer:
    """What was found so far of a pair of layers."""

    names: tuple[str, str]
    means: dict[str, _Mean] = field(default_factory=lambda: {name: _Mean() for name in MEASURES})
    left_out: int = 0
    worst: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)  # a heap


@dataclass(frozen=True)
class _Block:
    """Some images of both runs, and which of their maps belong together."""

    part: Samples
    rows: tuple[I8, I8]  # of the images
    keys: list[str]
    pairs: tuple[I8, I8, I8]  # image of the block, and which of its classes in each run
    classes: Array  # (pairs,) of the reference


class _Comparing:
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
        self._size = _view_size(names[0])
        common = [name for name in runs[0].metrics if name in runs[1].metrics]
        self._unlike = [n for n in common if len({_how_measured(run, n) for run in names}) > 1]
        self._metrics = {name: _Mean() for name in common if name not in self._unlike}
        self._agreeing = _Mean()
        self._counts: Counter[str] = Counter()
        self._order = count()

    def run(self, rows: _Rows, on_images: Callable[[int], None]) -> Comparison:
        reference, other = self._runs
        for _, block in _blocks(reference, other, self._by_class):
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
            first_class_equal=self._agreeing.figure(),
            layers=tuple(map(_likeness, self._layers)),
            metrics={name: mean.figure() for name, mean in self._metrics.items()},
            notes=tuple(self._notes()),
        )

    def _add(self, block: _Block, rows: _Rows) -> None:
        (here, there), (image, k, other_k) = block.rows, block.pairs
        other = self._runs[1]
        self._counts["images"] += len(here)
        self._counts["without_pair"] += len(here) - len(np.unique(image))
        agreeing = self._compare_classes(block)
        crops = block.part["crop"][here] - other["crop"][there]
        self._counts["crop"] += int((abs(crops).max(axis=1) > _SAME_CROP).sum())
        differences = _differences(block, other, self._metrics)
        for name, mean in self._metrics.items():
            mean.add(differences[name])
        for layer in self._layers:
            maps = block.part.cam(layer.names[0])[here][image, k]
            others = other.cam(layer.names[1])[there][image, other_k]
            found = self._measured(maps, others)
            self._add_layer(layer, found, block)
            if rows.wanted:
                rows.write(self._table(layer, found, block, agreeing, differences))

    def _compare_classes(self, block: _Block) -> Array:
        """(n,) 1.0 where both runs predict the same class, 0.0 where not, NaN without a class."""
        here, there = block.rows
        mine = block.part["top_class"][here, 0]
        theirs = self._runs[1]["top_class"][there, 0]
        known = (mine != NO_CLASS) & (theirs != NO_CLASS)
        agreeing = np.where(known, (mine == theirs).astype(np.float64), np.nan)
        self._agreeing.add(agreeing)
        return agreeing

    def _measured(self, maps: F4, others: F4) -> F8:
        """(M,h,w), (M,h',w') -> (M,measures)."""
        size = max(maps.shape[1], others.shape[1]), max(maps.shape[2], others.shape[2])
        parts = [slice(i, i + _ENLARGED) for i in range(0, len(maps), _ENLARGED)]
        pairs = ((maps[some], others[some]) for some in parts)
        found = [*self._pool.map(_measure, pairs, repeat(size), repeat(self._size))]
        return np.concatenate([np.empty((0, len(MEASURES))), *found])

    def _add_layer(self, layer: _Layer, found: F8, block: _Block) -> None:
        for values, mean in zip(found.T, layer.means.values(), strict=True):
            mean.add(values)
        spearman = found[:, list(MEASURES).index("spearman")]
        layer.left_out += int(np.isnan(spearman).sum())
        for at in np.flatnonzero(~np.isnan(spearman)):
            full = len(layer.worst) >= self._worst
            if full and (not layer.worst or -spearman[at] <= layer.worst[0][0]):
                continue
            row = {"key": block.keys[block.pairs[0][at]], "class": int(block.classes[at])}
            row |= dict(zip(MEASURES, map(_number, found[at]), strict=True))
            heapq.heappush(layer.worst, (-float(spearman[at]), -next(self._order), row))
            if len(layer.worst) > self._worst:
                heapq.heappop(layer.worst)

    def _table(
        self,
        layer: _Layer,
        found: F8,
        block: _Block,
        agreeing: Array,
        differences: dict[str, F8],
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
                **dict(zip(MEASURES, map(_number, found[at]), strict=True)),
                "first_class_equal": "" if np.isnan(same) else int(same),
                **{
                    f"{name}_difference": _number(differences[name][at])
                    if name in differences
                    else None
                    for name in self._runs[0].metrics
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


def pair_metrics(reference: Run, other: Run, names: Collection[str]) -> PairedMetrics:
    """Compare what was measured of two runs, image by image, without looking at their maps.

    Parameters
    ----------
    names
        Metrics of both.

    Raises
    ------
    RunDirectoryError
        A run is damaged.
    """
    means = {name: _Mean() for name in names}
    rows = np.full(len(reference), -1)
    first = {name: np.full(len(reference), np.nan, np.float32) for name in names}
    for start, block in _blocks(reference, other, by_class=True):
        (here, there), (image, k, _) = block.rows, block.pairs
        rows[start + here] = there
        for name, difference in _differences(block, other, names).items():
            means[name].add(difference)
            first[name][start + here[image[k == 0]]] = difference[k == 0]
    return PairedMetrics(rows, first, {name: mean.figure() for name, mean in means.items()})


def _blocks(reference: Run, other: Run, by_class: bool) -> Iterator[tuple[int, _Block]]:
    """The images of both, some at a time, and in which row of the first their shard begins."""
    keys, start = KeyRows(other), 0
    for part in reference.shards():
        every = part["key"][:]
        found = keys.find(every)
        both = np.flatnonzero(found >= 0)
        for first in range(0, len(both), TOGETHER):
            here = both[first : first + TOGETHER]
            yield start, _block(part, other, here, found[here], every[here], by_class)
        start += len(part)


def _block(part: Samples, other: Run, here: I8, there: I8, keys: Array, by_class: bool) -> _Block:
    mine, theirs = part["target"][here], other["target"][there]
    if by_class:
        same = (mine[:, :, None] == theirs[:, None, :]) & (mine != NO_CLASS)[:, :, None]
    else:
        same = np.broadcast_to(
            np.eye(mine.shape[1], theirs.shape[1], dtype=bool),
            (len(mine), mine.shape[1], theirs.shape[1]),
        )
        same = same & (mine != NO_CLASS)[:, :, None] & (theirs != NO_CLASS)[:, None, :]
    image, k, other_k = np.nonzero(same)
    texts = [key.decode(errors="backslashreplace") for key in keys.tolist()]
    return _Block(part, (here, there), texts, (image, k, other_k), mine[image, k])


def _differences(block: _Block, other: Run, names: Collection[str]) -> dict[str, F8]:
    """(pairs,) of each metric: the other's value minus the reference's."""
    (here, there), (image, k, other_k) = block.rows, block.pairs
    found = {}
    for name in names:
        theirs = other.take(there).metric(name)[_places(there)]
        mine = block.part.take(here).metric(name)
        found[name] = (theirs[image, other_k] - mine[image, k]).astype(np.float64)
    return found


def _measure(pair: tuple[F4, F4], size: tuple[int, int], view: tuple[int, int]) -> F8:
    """(M,h,w), (M,h',w') -> (M,measures), in the order of `MEASURES`."""
    maps = [np.ascontiguousarray(one) for one in pair]
    first, second = (one if one.shape[1:] == size else upsample(one, size) for one in maps)
    alike = similarity(first, second)
    large = max(view[0], size[0], WINDOW), max(view[1], size[1], WINDOW)
    structure = ssim(*(upsample(one, large) for one in maps))
    return np.column_stack([alike[:, :3], structure, alike[:, 3]])


def _places(rows: I8) -> I8:
    """Where each row is among the distinct ones, which are taken in ascending order."""
    return np.unique(rows, return_inverse=True)[1]


def _layer_pairs(
    names: tuple[str, str], runs: tuple[Run, Run], asked: tuple[str, str] | None
) -> list[tuple[str, str]]:
    for name, run in zip(names, runs, strict=True):
        if not run.layers:
            raise ConfigError(f"{name}: it has no maps: it was made without maps in --save")
    if asked is not None:
        for name, run, layer in zip(names, runs, asked, strict=True):
            if layer_path(layer) not in run.layers:
                known = ", ".join(run.layers)
                raise ConfigError(f"--layer {layer}: {name} has no maps of it; it has {known}")
        return [(layer_path(asked[0]), layer_path(asked[1]))]
    common = [(layer, layer) for layer in runs[0].layers if layer in runs[1].layers]
    return common or [(runs[0].layers[0], runs[1].layers[0])]


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
        figures={name: mean.figure() for name, mean in layer.means.items()},
        left_out=layer.left_out,
        worst=tuple(row for _, _, row in ordered),
    )


def _example(run: Run) -> str:
    return repr(run.take(0).keys[0]) if len(run) else "none"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _figure_json(figure: Figure) -> dict[str, Any]:
    interval = [_number(figure.low), _number(figure.high)]
    return {"mean": _number(figure.value), "ci95": interval, "n": figure.n}
