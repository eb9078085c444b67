"""Some samples of a run: a whole run, a shard of it, or what was selected from either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.grid_rows import GridRows, StoredGrids
from shardcam.engine.analysis.maps import RawMaps
from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.analysis.row_filter import Classes, RowFilter, is_one_of
from shardcam.engine.analysis.stored_clusters import Clustering, StoredClusters
from shardcam.engine.analysis.stored_metrics import StoredMetrics, keyword
from shardcam.engine.analysis.stored_rows import (
    CLOSED,
    Array,
    Part,
    Positions,
    Rows,
    ShardRows,
    column,
    positions,
)
from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.schema import CELLS, FAILURES, Form, layer_path
from shardcam.engine.types import F4, NO_CLASS

if TYPE_CHECKING:
    import pandas as pd

# Columns of a table: with one value a sample, with one for each of its classes, with names.
_SINGLE = ("sample", "label", "flags")
_NUMBERED = ("target", "score", "top_class", "top_score")
_NAMED = {"image_size": ("height", "width"), "crop": ("y0", "x0", "y1", "x1")}


class Samples:
    """N samples, read when asked for.

    Parameters
    ----------
    file
        Index or shard, open.
    parts
        The shards of the file, in the order of its rows.
    chosen
        The rows that are meant, ascending; None: all.
    style
        How the run draws heatmaps over pictures.
    forms
        The shapes and types of the run's datasets, in the order that they have in its files.
    within
        Whether the file is a shard, which holds the rows itself.
    metrics
        What was measured of the run's maps.
    clusters
        Which of the run's images are alike.
    """

    def __init__(
        self,
        file: h5py.File,
        parts: tuple[ShardRows, ...],
        chosen: Positions | None,
        style: OverlayStyle,
        forms: Mapping[str, Form],
        within: bool = False,
        metrics: StoredMetrics | None = None,
        clusters: StoredClusters | None = None,
    ) -> None:
        self._file, self._parts, self._chosen, self._style = file, parts, chosen, style
        self._forms, self._within = forms, within
        self._metrics, self._clusters = metrics, clusters

    @property
    def _open(self) -> h5py.File:
        if not self._file:
            raise ValueError(CLOSED)
        return self._file

    def __len__(self) -> int:
        _ = self._open
        return self._rows if self._chosen is None else len(self._chosen)

    @property
    def _rows(self) -> int:
        return self._parts[-1].stop if self._parts else 0

    def __getitem__(self, name: str) -> Rows:
        """Return a dataset with a row for each sample, such as ``label`` or ``pooled/LAYER``.

        Raises
        ------
        ConfigError
            The run does not have it, or it is of the samples that failed.
        """
        file = self._open
        if name not in self._forms:
            raise ConfigError(f"{file.filename}: no dataset {name!r} in it")
        if name.startswith(FAILURES):
            raise ConfigError(
                f"{name}: belongs to failed samples, which have no row here; see failures"
            )
        if CELLS.fullmatch(name):
            layer = name.split("/")[1]
            raise ConfigError(f"{name}: has a row for each cell of a map; see cam({layer!r})")
        form = self._forms[name]
        found = column(file, name, form, self._parts, self._chosen, self._within)
        return self._without_invented(found) if name == "top_class" else found

    def _without_invented(self, classes: Rows) -> Rows:
        """NO_CLASS where a class has no score: version 0.1.0 stored the first classes."""
        scores = self["top_score"]

        def read(rows: Positions, part: Part) -> Array:
            scored = np.isfinite(scores.read(rows, part))
            return np.where(scored, classes.read(rows, part), np.int32(NO_CLASS))

        return Rows(classes.shape, classes.dtype, read)

    def has(self, name: str) -> bool:
        """Whether the run has a dataset."""
        return name in self._forms

    @property
    def style(self) -> OverlayStyle:
        """How the run draws heatmaps over pictures."""
        return self._style

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that have maps, slashes replaced by dots."""
        return self.layers_with("cam")

    @property
    def hidden_layers(self) -> dict[str, str]:
        """Layers with activations, else pooled values, and the dataset of each."""
        return {
            layer: f"{kind}/{layer}"
            for kind in ("pooled", "activation")
            for layer in self.layers_with(kind)
        }

    def layers_with(self, kind: str) -> tuple[str, ...]:
        """The layers that have datasets of a kind: ``cam``, ``activation`` or ``pooled``."""
        _ = self._open
        parts = (name.split("/") for name in self._forms)
        return tuple(dict.fromkeys(part[1] for part in parts if part[0] == kind and part[1:]))

    @cached_property
    def keys(self) -> list[str]:
        """The key of every sample."""
        return [key.decode(errors="backslashreplace") for key in self["key"][:].tolist()]

    @property
    def table(self) -> pd.DataFrame:
        """A DataFrame with the columns of the run that are not maps, a row for each sample.

        ``key``, ``sample``, ``label`` (-1 where none), ``flags``; ``target_0``, ``score_0`` and
        so on for each of the K explained classes; ``top_class_0``, ``top_score_0`` and so on
        for the prediction, -1 where there is no class; ``height``, ``width``; ``y0``, ``x0``,
        ``y1``, ``x1`` of the crop; each metric by its name, or as ``NAME_0`` and so on if there are
        several explained classes; ``cluster``, ``outlier``, ``embedding_0`` and ``embedding_1`` of
        `clusters`, with ``_NAME`` behind if the run has several. Types are those of the files.

        Raises
        ------
        ConfigError
            pandas is not installed.
        """
        pandas = require("pandas", "a table")
        columns = self.columns()
        columns["key"] = pandas.Series(columns["key"], dtype=object)
        for name in self.metrics:
            values = self.metric(name).T
            names = [name] if len(values) == 1 else [f"{name}_{k}" for k in range(len(values))]
            columns |= dict(zip(names, values, strict=True))
        for name, one in self.clusters.items():
            end = f"_{name}" if len(self.clusters) > 1 else ""
            columns |= {f"cluster{end}": one.cluster, f"outlier{end}": one.outlier}
            columns |= {f"embedding_{k}{end}": v for k, v in enumerate(one.embedding.T)}
        table: pd.DataFrame = pandas.DataFrame(columns)
        return table

    def columns(self) -> dict[str, Any]:
        """The columns of `table` that are not metrics: arrays, and ``key`` as a list."""
        columns: dict[str, Any] = {"key": self.keys}
        for name in _SINGLE:
            columns[name] = self[name][:]
        for name in _NUMBERED:
            columns |= {f"{name}_{k}": values for k, values in enumerate(self[name][:].T)}
        for name, parts in _NAMED.items():
            columns |= dict(zip(parts, self[name][:].T, strict=True))
        return columns

    def cam(self, layer: str) -> RawMaps | GridRows:
        """Return the raw maps of a layer; `GridRows` where pictures kept their own sizes.

        Raises
        ------
        ConfigError
            The layer has none.
        """
        name = layer_path(layer)
        if name not in self.layers:
            known = ", ".join(self.layers) or "none; see --save maps"
            raise ConfigError(f"no maps of layer {layer!r}; layers with maps: {known}")
        crop, image_size = self["crop"], self["image_size"]
        if f"cam/{name}/cells" in self._forms:
            stored = StoredGrids(
                self._open, name, self._forms, self._parts, self._chosen, self._within
            )
            return GridRows(name, stored, self[f"cam/{name}/grid"], crop, image_size, self._style)
        normalized, scale = self[f"cam/{name}/map"], self[f"cam/{name}/scale"]
        return RawMaps(normalized, scale, crop, image_size, self._style)

    @property
    def activation_layers(self) -> tuple[str, ...]:
        """The layers whose activations were saved, slashes replaced by dots."""
        return self.layers_with("activation")

    def activation(self, layer: str) -> Rows:
        """(N,C,h,w), or (N,D) of a dense layer: what a layer computed, as it was stored.

        Raises
        ------
        ConfigError
            It was not saved.
        """
        name = layer_path(layer)
        if name not in self.activation_layers:
            known = ", ".join(self.activation_layers) or "none; see --save pooled and activations"
            raise ConfigError(f"no activations of layer {layer!r}; layers with some: {known}")
        return self[f"activation/{name}"]

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of each metric that was measured of the run, as ``metrics/summary.json``."""
        _ = self._open
        return dict(self._metrics.summary) if self._metrics else {}

    def metric(self, name: str) -> F4:
        """(N,K) float32: a metric of each explained class, NaN where it was not measured.

        Raises
        ------
        ConfigError
            The run has no such metric.
        """
        samples = self["sample"][:]
        if self._metrics is None:
            raise ConfigError(f"no metric {name!r} here")
        return self._metrics.values(name, samples)

    @property
    def clusters(self) -> dict[str, Clustering]:
        """Each clustering of the run by its name; see ``shardcam cluster``."""
        _ = self._open
        if self._clusters is None:
            return {}
        return {
            name: Clustering(
                summary,
                partial(self._cluster_columns, self._clusters, name),
                partial(self._clusters.of_class, name),
            )
            for name, summary in self._clusters.summary.items()
        }

    def _cluster_columns(self, stored: StoredClusters, name: str) -> dict[str, Array]:
        return stored.columns(name, self["sample"][:])

    def select(
        self,
        *,
        predicted: Classes = None,
        label: Classes = None,
        min_score: float | None = None,
        flags: int | None = None,
        correct: bool | None = None,
        cluster: Classes = None,
        clustering: str | None = None,
        **bounds: float,
    ) -> Samples:
        """Return the samples that meet every condition given; only single columns are read.

        Parameters
        ----------
        predicted, label
            The predicted or the given class, or several of which it is one; -1 where there is
            none.
        min_score
            Score of the predicted class, at least.
        flags
            The very value: 0 for maps without remark.
        correct
            Whether prediction and label agree; samples without a label are neither, nor are those
            of a network that claims no class; those with a label and logits that are not finite
            are not.
        cluster
            Of its class, or several of which it is one; -1 where it is in none. The clusters of a
            class are numbered from 0, so give the class, too: ``predicted=3, cluster=1``.
        clustering
            Whose clusters are meant, if the run has several; see `clusters`.
        bounds
            Of a metric of the first explained class: ``min_insertion=0.5``,
            ``max_average_drop=0.2``; what was not measured meets none.

        Raises
        ------
        ConfigError
            Something given is not a class number, or the run has no such metric or clustering.
        """
        wanted = RowFilter(
            predicted=predicted, label=label, min_score=min_score, flags=flags, correct=correct
        )
        keep = wanted.matching(_Columns(self))
        if cluster is not None:
            if self._clusters is None:
                raise ConfigError("no clusters here")
            name = self._clusters.named(clustering)
            found = self._cluster_columns(self._clusters, name)["cluster"]
            keep &= is_one_of("cluster", found, cluster)
        for bound, limit in bounds.items():
            keep &= self._within_bound(bound, limit)
        return self.take(keep)

    def _within_bound(self, bound: str, limit: float) -> npt.NDArray[np.bool_]:
        """(N,) whether a metric is at least or at most so much."""
        names = {keyword(name): name for name in self.metrics}
        side, _, name = bound.partition("_")
        if side not in ("min", "max") or name not in names:
            known = ", ".join(f"min_{n}, max_{n}" for n in names) or "none: nothing was measured"
            raise ConfigError(f"select: no condition {bound!r}; those of metrics: {known}")
        values = self.metric(names[name])[:, 0]
        return values >= limit if side == "min" else values <= limit

    def take(self, rows: Any) -> Samples:
        """Return the samples at some positions, in the order they have here, each once.

        Parameters
        ----------
        rows
            A number, a slice, a mask or a list of numbers.

        Raises
        ------
        IndexError
            A number is out of range.
        """
        found = np.unique(positions(rows, len(self), "samples"))
        chosen = found if self._chosen is None else self._chosen[found]
        return Samples(
            self._file,
            self._parts,
            chosen,
            self._style,
            self._forms,
            self._within,
            self._metrics,
            self._clusters,
        )

    def shards(self) -> Iterator[Samples]:
        """Go through the samples shard by shard, those of one file at a time.

        Each is open until the next is asked for; memory does not grow with the run.

        Raises
        ------
        RunDirectoryError
            A shard is missing or damaged.
        """
        for part in self.closed_shards():
            with part.opened(self._metrics, self._clusters) as samples:
                yield samples

    def closed_shards(self, most: int | None = None) -> Iterator[ClosedSamples]:
        """The samples of each shard in turn, which need not be open; at most so many at once."""
        for part in self._parts:
            rows = part.stop - part.start
            chosen = None
            if self._chosen is not None:
                first, last = np.searchsorted(self._chosen, (part.start, part.stop))
                chosen = self._chosen[first:last] - part.start
            count = rows if chosen is None else len(chosen)
            step = most or max(count, 1)
            for start in range(0, count, step):
                some = chosen
                if step < count:
                    some = (np.arange(rows) if chosen is None else chosen)[start : start + step]
                yield ClosedSamples(part.path, rows, some, self._style, self._forms)


@dataclass(frozen=True)
class ClosedSamples:
    """Some samples of a shard, which another process can open, too."""

    path: Path
    rows: int  # of the shard
    chosen: Positions | None
    style: OverlayStyle
    forms: Mapping[str, Form]

    def __len__(self) -> int:
        return self.rows if self.chosen is None else len(self.chosen)

    @contextmanager
    def opened(
        self, metrics: StoredMetrics | None = None, clusters: StoredClusters | None = None
    ) -> Iterator[Samples]:
        """Open the shard.

        Raises
        ------
        RunDirectoryError
            It is missing or damaged.
        """
        with reading(self.path) as file:
            whole = (ShardRows(self.path, 0, self.rows),)
            yield Samples(file, whole, self.chosen, self.style, self.forms, True, metrics, clusters)


class _Columns:
    """The columns that samples are selected by, each read when it is looked at, once."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def label(self) -> Array:
        return self._samples["label"][:]

    @cached_property
    def predicted(self) -> Array:
        return self._samples["top_class"][:, 0]

    @cached_property
    def score(self) -> Array:
        return self._samples["top_score"][:, 0]

    @cached_property
    def flags(self) -> Array:
        return self._samples["flags"][:]
