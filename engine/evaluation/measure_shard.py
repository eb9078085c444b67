"""What a worker does: from a shard of the run to a file of each metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_rows import ShardRows
from shardcam.engine.errors import bugs_named
from shardcam.engine.evaluation.baselines import baseline_maps
from shardcam.engine.evaluation.metric import ImageRows, MapMetric, Measured, Reason
from shardcam.engine.evaluation.truth import Truth
from shardcam.engine.protocols import Timer
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import forms_of, summarize
from shardcam.engine.types import NO_CLASS, Shard, ShardReport, shard_name

Array = npt.NDArray[Any]
TOGETHER = 256  # images whose maps are held at once


@dataclass(frozen=True)
class Wanted:
    """A metric that is measured, and where its values go."""

    folder: str
    fingerprint: str
    metric: MapMetric


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

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Measure the samples of a shard that the run has maps of, and publish.

        Those that crashed their worker are given no value.
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
            for some in _blocks(chosen[~np.isin(samples[chosen], given_up)]):
                with timer.stage("read"):
                    images = self._images(stored, some)
                    maps = stored.cam(self.layer)[some]
                with bugs_named(shard.samples), timer.stage("measure"):
                    for one in self.wanted:
                        measured = self._measured(one.metric, maps, images)
                        tables[one.folder].add(np.searchsorted(chosen, some), measured)
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

    def _images(self, stored: Samples, some: npt.NDArray[np.intp]) -> ImageRows:
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

    def _measured(self, metric: MapMetric, maps: Array, images: ImageRows) -> dict[str, Measured]:
        """By the name of the baseline, that of the run's own maps empty."""
        found = {"": metric.measure(maps, images)}
        for name in self.baselines:
            base = baseline_maps(name, images, maps.shape, self.seed)
            base[images.target == NO_CLASS] = np.nan
            found[name] = metric.measure(base, images)
        return found


@dataclass
class _Table:
    """What was measured so far of the rows of a shard, for each baseline."""

    rows: list[npt.NDArray[np.intp]] = field(default_factory=list)
    parts: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, rows: npt.NDArray[np.intp], measured: Mapping[str, Measured]) -> None:
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
                    table[key] = table[key] + found if key in table else found
        return table


def _blocks(rows: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    for first in range(0, len(rows), TOGETHER):
        yield rows[first : first + TOGETHER]


def sampled(listed: int, count: int) -> npt.NDArray[np.int64]:
    """Positions of so many samples, evenly over a listing: the same for every metric and method."""
    return np.arange(count, dtype=np.int64) * listed // count


def of_shard(positions: Sequence[int] | npt.NDArray[np.int64], start: int, stop: int) -> list[int]:
    """Those positions that lie in a shard."""
    first, last = np.searchsorted(positions, (start, stop))
    return [int(p) for p in positions[first:last]]
