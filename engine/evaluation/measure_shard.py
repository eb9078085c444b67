"""What a worker does: from a shard of the run to a file of each metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_rows import Positions, ShardRows
from shardcam.engine.errors import bugs_named
from shardcam.engine.evaluation.baselines import measure_baseline
from shardcam.engine.evaluation.metric import ImageRows, MapMetric, Measured, Reason
from shardcam.engine.evaluation.pass_metrics import PassMetric, measure_passes
from shardcam.engine.evaluation.passes import Passes
from shardcam.engine.pipeline.prefetch import Batch, BatchLoader, Prefetcher
from shardcam.engine.protocols import Timer
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import forms_of, summarize
from shardcam.engine.truths.truth import Truth
from shardcam.engine.types import F4, U1, Preprocessing, Shard, ShardReport, shard_name

Array = npt.NDArray[Any]
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
        self, metrics: list[PassMetric], batch: Batch, maps: F4, images: ImageRows, seed: int
    ) -> dict[str, Measured]:
        """Measure the classes of a batch, by the names of the metrics."""
        given = self.normalised(batch.images, self.loader.preprocessing)
        return measure_passes(metrics, given, maps, images, self.passes, seed)


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

        Those that crashed their worker, or whose picture cannot be read any more where it is
        needed, are given no value.
        """
        asked = np.array([s.index for s in shard.samples], np.int64)
        given_up = [failure.sample for failure in shard.given_up]
        tables = {one.folder: _Table() for one in self.wanted}
        if self.pictures is not None:
            self.pictures.passes.tell(timer.pass_begun)
        with reading(self.run_dir.shard(shard.index)) as file:
            source, forms = summarize(file), forms_of(datasets(file))
            rows = ShardRows(self.run_dir.shards / shard_name(shard.index), 0, source.ok)
            stored = Samples(file, (rows,), None, OverlayStyle(), forms, within=True)
            samples = stored["sample"][:].astype(np.int64)
            chosen = np.flatnonzero(np.isin(samples, asked))
            usable = chosen[~np.isin(samples[chosen], given_up)]
            for some, batch in self._parts(shard, samples, usable):
                with timer.stage("read"):
                    images = self._images(stored, some)
                    maps = stored.cam(self.layer)[some]
                places = np.searchsorted(chosen, some)
                named = bugs_named(batch.samples if batch else shard.samples)
                with named, timer.stage("measure"):
                    for one, measured in self._measured(maps, images, batch):
                        tables[one.folder].add(places, measured)
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

    def _parts(
        self, shard: Shard, samples: npt.NDArray[np.int64], usable: Positions
    ) -> Iterator[tuple[Positions, Batch | None]]:
        """Rows that are measured at once, with their pictures if these are needed."""
        if self.pictures is None:
            for first in range(0, len(usable), TOGETHER):
                yield usable[first : first + TOGETHER], None
            return
        wanted = set(samples[usable].tolist())
        some = replace(shard, samples=tuple(s for s in shard.samples if s.index in wanted))
        for batch in Prefetcher(self.pictures.loader.batches).batches(some):
            if batch.samples:
                found = [sample.index for sample in batch.samples]
                yield np.flatnonzero(np.isin(samples, found)), batch

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

    def _measured(
        self, maps: F4, images: ImageRows, batch: Batch | None
    ) -> Iterator[tuple[Wanted, dict[str, Measured]]]:
        """Each metric of some images: by the name of the baseline, that of the maps empty."""
        pixels = np.stack([view.pixels for view in batch.views]) if batch else None
        grid = maps.shape[2], maps.shape[3]
        asking: dict[str, Wanted] = {}
        for one in self.wanted:
            if isinstance(one.metric, PassMetric):
                asking[one.metric.name] = one
                continue
            found = {"": one.metric.measure(maps, images)}
            for name in self.baselines:
                found[name] = measure_baseline(
                    one.metric, name, grid, images, seed=self.seed, pixels=pixels
                )
            yield one, found
        if asking and self.pictures is not None and batch is not None:
            metrics = [one.metric for one in asking.values() if isinstance(one.metric, PassMetric)]
            measured = self.pictures.measure(metrics, batch, maps, images, self.seed)
            for name, one in asking.items():
                yield one, {"": measured[name]}


@dataclass
class _Table:
    """What was measured so far of the rows of a shard, for each baseline."""

    rows: list[Positions] = field(default_factory=list)
    parts: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, rows: Positions, measured: Mapping[str, Measured]) -> None:
        self.rows.append(rows)
        for name, one in measured.items():
            self.parts.setdefault(name, []).append(one)

    def finished(self, samples: npt.NDArray[np.int64], explained: int) -> dict[str, Array]:
        """The datasets of the file; rows that were not measured are `Reason.UNREADABLE`."""
        count = len(samples)
        table: dict[str, Array] = {"sample": samples}
        for name, parts in (self.parts or {"": []}).items():
            prefix = f"{name}/" if name else ""
            value = np.full((count, explained), np.nan, np.float32)
            reason = np.full((count, explained), Reason.UNREADABLE, np.uint8)
            table |= {f"{prefix}value": value, f"{prefix}reason": reason}
            for rows, one in zip(self.rows, parts, strict=True):
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


def sampled(listed: int, count: int) -> npt.NDArray[np.int64]:
    """Positions of so many samples, evenly over a listing: the same for every metric and method."""
    return np.arange(count, dtype=np.int64) * listed // count


def of_shard(positions: Sequence[int] | npt.NDArray[np.int64], start: int, stop: int) -> list[int]:
    """Those positions that lie in a shard."""
    first, last = np.searchsorted(positions, (start, stop))
    return [int(p) for p in positions[first:last]]
