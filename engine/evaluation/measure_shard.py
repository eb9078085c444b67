"""What a worker does: from a shard of the run to a file of each metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.grid_rows import GridRows
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_rows import Positions, ShardRows
from shardcam.engine.errors import bugs_named
from shardcam.engine.evaluation.baselines import EDGES, measure_baseline
from shardcam.engine.evaluation.metric import ImageRows, MapMetric, Measured, PassMetric, Reason
from shardcam.engine.evaluation.pass_metrics import measure_passes
from shardcam.engine.evaluation.passes import Passes
from shardcam.engine.methods.arrays import on_host
from shardcam.engine.pipeline.prefetch import Batch, BatchLoader, Prefetcher
from shardcam.engine.protocols import Timer
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import forms_of, summarize
from shardcam.engine.truths.truth import Truth
from shardcam.engine.types import F4, I8, U1, Preprocessing, Shard, ShardReport, shard_name

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
TOGETHER = 256  # images whose maps are held at once


@dataclass(frozen=True)
class Wanted:
    """A metric that is measured, and where its values go."""

    folder: str
    fingerprint: str
    metric: MapMetric | PassMetric


@dataclass(frozen=True)
class Pictures:
    """What asks the network about changed pictures, in a worker of the run's own."""

    loader: BatchLoader
    passes: Passes
    normalised: Callable[[U1, Preprocessing], F4]

    def measure(
        self, metrics: list[PassMetric], images: U1, maps: F4, rows: ImageRows, seed: int
    ) -> dict[str, Measured]:
        """Measure the classes of (n,H,W,channels) images, by the names of the metrics."""
        given = self.normalised(images, self.loader.preprocessing)
        return measure_passes(metrics, given, maps, rows, self.passes, seed)


@dataclass(frozen=True)
class ShardEvaluator:
    """The runner (`engine.protocols.ShardRunner`) that measures stored maps."""

    run_dir: RunDir
    layer: str  # as datasets name it
    view_size: tuple[int, int]
    wanted: tuple[Wanted, ...]
    truth: Truth | None
    baselines: tuple[str, ...]
    seed: int
    pictures: Pictures | None  # None: nothing that is measured needs them

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Measure the samples of a shard that the run has maps of, and publish.

        What needs no picture is measured of all of them but those that crashed their worker;
        what needs one, of those whose picture can still be read and is as large as it was.
        """
        asked = np.array([s.index for s in shard.samples], np.int64)
        given_up = [failure.sample for failure in shard.given_up]
        tables = {one.folder: _Table() for one in self.wanted}
        with reading(self.run_dir.shard(shard.index)) as file:
            source, forms = summarize(file), forms_of(datasets(file))
            rows = ShardRows(self.run_dir.shards / shard_name(shard.index), 0, source.ok)
            stored = Samples(file, (rows,), None, OverlayStyle(), forms, within=True)
            samples = stored["sample"][:].astype(np.int64)
            chosen = np.flatnonzero(np.isin(samples, asked))
            usable = chosen[~np.isin(samples[chosen], given_up)]
            for first in range(0, len(usable), TOGETHER):
                some = usable[first : first + TOGETHER]
                for places, maps, images in self._stored(stored, some, timer):
                    with bugs_named(shard.samples), timer.stage("measure"):
                        rows = np.searchsorted(chosen, some[places])
                        for folder, name, measured in self._of_maps(maps, images):
                            tables[folder].add(name, rows, measured)
                if self.pictures is None:
                    timer.batch_done(len(some))
            if self.pictures is not None:
                self.pictures.passes.tell(timer.pass_begun)
                for some, batch in self._batches(self.pictures, shard, samples, usable):
                    same = np.flatnonzero(_same_size(batch, stored["image_size"][some]))
                    for places, maps, images in self._stored(stored, some[same], timer):
                        with bugs_named(batch.samples), timer.stage("measure"):
                            own = same[places]
                            rows = np.searchsorted(chosen, some[own])
                            for folder, name, measured in self._of_pictures(
                                batch, own, maps, images
                            ):
                                tables[folder].add(name, rows, measured)
                    timer.batch_done(len(some))
            explained = stored["target"].shape[1]
        published = False
        with timer.stage("write"):
            for one in self.wanted if not shard.trial else ():
                table = tables[one.folder].finished(samples[chosen], explained)
                results = MetricResults(self.run_dir, one.folder)
                published |= results.write(shard.index, one.fingerprint, source, table)
        failed = len(asked) - len(chosen)
        return ShardReport(shard.index, len(asked), len(chosen), failed, published, timer.seconds)

    def _batches(
        self, pictures: Pictures, shard: Shard, samples: I8, usable: Positions
    ) -> Iterator[tuple[Positions, Batch]]:
        """Rows whose pictures can be read, and these."""
        wanted, order = set(samples[usable].tolist()), np.argsort(samples)
        some = replace(shard, samples=tuple(s for s in shard.samples if s.index in wanted))
        for batch in Prefetcher(pictures.loader.batches).batches(some):
            if batch.samples:
                found = [sample.index for sample in batch.samples]
                yield order[np.searchsorted(samples, found, sorter=order)], batch

    def _stored(
        self, stored: Samples, some: Positions, timer: Timer
    ) -> Iterator[tuple[Positions, F4, ImageRows]]:
        """Some rows by the size of what the network saw: which of them, their maps, the rest."""
        with timer.stage("read"):
            cam = stored.cam(self.layer)
            groups = list(cam.grouped(some))
        for places, maps in groups:
            with timer.stage("read"):
                images = self._images(stored, some[places])
                if isinstance(cam, GridRows):
                    rows = some[places]
                    images = replace(
                        images,
                        view_size=tuple(cam.view_sizes(rows[0]).tolist()),
                        grids=tuple(cam.grids(rows)),
                        scales=cam.scales,
                    )
            yield places, maps, images

    def _images(self, stored: Samples, some: Positions) -> ImageRows:
        keys = tuple(k.decode(errors="backslashreplace") for k in stored["key"][some].tolist())
        return ImageRows(
            sample=stored["sample"][some].astype(np.int64),
            keys=keys,
            label=stored["label"][some].astype(np.int32),
            target=stored["target"][some].astype(np.int32),
            score=stored["score"][some],
            top_class=stored["top_class"][some].astype(np.int32),
            crop=stored["crop"][some].astype(np.float64),
            image_size=stored["image_size"][some].astype(np.int32),
            view_size=self.view_size,
            truth=tuple(self.truth.of(key) if self.truth else None for key in keys),
        )

    def _of_maps(self, maps: F4, images: ImageRows) -> Iterator[tuple[str, str, Measured]]:
        """What needs no picture: a folder, the baseline or nothing for the maps, the values."""
        for one in self.wanted:
            if isinstance(one.metric, PassMetric):
                continue
            yield one.folder, "", one.metric.measure(maps, images)
            for name in self.baselines:
                if name != EDGES:
                    yield one.folder, name, self._baseline(one.metric, name, maps, images)

    def _of_pictures(
        self, batch: Batch, own: Positions, maps: F4, images: ImageRows
    ) -> Iterator[tuple[str, str, Measured]]:
        """The same of what needs the pictures: `own` are those of the batch."""
        asking = {one.metric.name: one for one in self.wanted if isinstance(one.metric, PassMetric)}
        if asking and self.pictures is not None:
            metrics = [one.metric for one in asking.values() if isinstance(one.metric, PassMetric)]
            given = on_host(batch.images[own])
            measured = self.pictures.measure(metrics, given, maps, images, self.seed)
            yield from ((one.folder, "", measured[name]) for name, one in asking.items())
        if EDGES in self.baselines:
            pixels = np.stack([batch.views[place].pixels for place in own])
            for one in self.wanted:
                if not isinstance(one.metric, PassMetric):
                    yield one.folder, EDGES, self._baseline(one.metric, EDGES, maps, images, pixels)

    def _baseline(
        self, metric: MapMetric, name: str, maps: F4, images: ImageRows, pixels: U1 | None = None
    ) -> Measured:
        images = replace(images, grids=None)
        return measure_baseline(metric, name, maps.shape[2:], images, seed=self.seed, pixels=pixels)


def _same_size(batch: Batch, seen: Array) -> Bools:
    """(n,) whether a picture is as large as the one that the run saw: else it is another one."""
    sizes = np.array([view.image_size for view in batch.views]).reshape(-1, 2)
    same: Bools = (sizes == seen).all(axis=1)
    return same


@dataclass
class _Table:
    """What was measured so far of the rows of a shard, for the maps and for each baseline."""

    parts: dict[str, list[tuple[Positions, Measured]]] = field(default_factory=dict)

    def add(self, name: str, rows: Positions, measured: Measured) -> None:
        self.parts.setdefault(name, []).append((rows, measured))

    def finished(self, samples: I8, explained: int) -> dict[str, Array]:
        """The datasets of the file; rows that were not measured are `Reason.UNREADABLE`."""
        count = len(samples)
        table: dict[str, Array] = {"sample": samples}
        for name in dict.fromkeys(("", *self.parts)):
            prefix = f"{name}/" if name else ""
            value = np.full((count, explained), np.nan, np.float32)
            reason = np.full((count, explained), Reason.UNREADABLE, np.uint8)
            table |= {f"{prefix}value": value, f"{prefix}reason": reason}
            for rows, one in self.parts.get(name, ()):
                value[rows], reason[rows] = one.value, one.reason
                for column, found in one.columns.items():
                    key = f"{prefix}column/{column}"
                    if key not in table:
                        table[key] = np.zeros((count, *found.shape[1:]), found.dtype)
                    table[key][rows] = found
                for state, found in one.state.items():
                    key = f"{prefix}state/{state}"
                    found = np.atleast_1d(found)  # HDF5 packs no scalars
                    table[key] = table[key] + found if key in table else found
        return table


def sampled(listed: int, count: int) -> I8:
    """Positions of so many samples, evenly over a listing: the same for every metric and method."""
    return np.arange(count, dtype=np.int64) * listed // count


def of_shard(positions: Sequence[int] | I8, start: int, stop: int) -> list[int]:
    """Those positions that lie in a shard."""
    first, last = np.searchsorted(positions, (start, stop))
    return [int(p) for p in positions[first:last]]
