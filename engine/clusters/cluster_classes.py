"""What a worker does: from some classes of a run to a file of each."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.analysis.row_filter import judged
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_rows import Positions
from shardcam.engine.clusters.cluster_class import ClassRows, cluster_class
from shardcam.engine.clusters.features import NORMS, LeftOut, comparable
from shardcam.engine.clusters.settings import ALL, LABEL, MAPS, Settings
from shardcam.engine.errors import bugs_named
from shardcam.engine.protocols import Timer
from shardcam.engine.rundir.cluster_results import ClusterResults
from shardcam.engine.types import I4, Shard, ShardReport

Array = npt.NDArray[Any]
NO_GROUP = -1  # no label, or no class that the network claims


@dataclass(frozen=True)
class View:
    """What is compared of a run."""

    by: str
    of: str
    layer: str  # as datasets name it
    target: int  # of the explained classes of each image


def groups_of(samples: Samples, by: str) -> I4:
    """(N,) the class in which a sample is compared, NO_GROUP where there is none."""
    if by == ALL:
        return np.zeros(len(samples), np.int32)
    found = samples["label"][:] if by == LABEL else samples["top_class"][:, 0]
    return np.maximum(found, NO_GROUP).astype(np.int32)


@dataclass(frozen=True)
class ClassClusterer:
    """The runner (`engine.protocols.ShardRunner`) that clusters classes; each is a "sample"."""

    home: str  # of the run
    shape: tuple[int, ...]  # of a map, or of an image's pooled activations
    view: View
    settings: Settings
    results: ClusterResults
    fingerprint: str
    source: str
    threads: int

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Read the rows of some classes in one pass over the run, and publish class by class."""
        given_up = {failure.sample for failure in shard.given_up}
        wanted = [one for one in shard.samples if one.index not in given_up]
        published = False
        with timer.stage("read"), open_run(self.home) as run:
            groups = groups_of(run, self.view.by)
            chosen = np.flatnonzero(np.isin(groups, [one.index for one in wanted]))
            rows, reason = self._rows(run.take(chosen))
        for one in wanted:
            own = np.flatnonzero(groups[chosen] == one.index)
            with bugs_named([one]), timer.stage("cluster"):
                table, left_out = self._clustered(rows, own, reason[own])
            if not shard.trial:
                with timer.stage("write"):
                    published |= self.results.write(
                        one.index, self.fingerprint, self.source, left_out, table
                    )
            timer.batch_done(1)
        listed, lost = len(shard.samples), len(given_up)
        return ShardReport(shard.index, listed, listed - lost, lost, published, timer.seconds)

    def _clustered(
        self, rows: ClassRows, own: Positions, reason: Array
    ) -> tuple[dict[str, Array], str]:
        """What is found out about some rows, and how many are left out, by the reason, as JSON."""
        table = cluster_class(
            rows.take(own[reason == 0]), self.settings, NORMS[self.view.of], self.threads
        )
        for name in ("mean", "of_cluster/mean", "of_cluster/deviation"):
            table[name] = table[name].reshape(-1, *self.shape)
        counts = Counter(LeftOut(code).words for code in reason[reason > 0].tolist())
        return table, json.dumps(dict(sorted(counts.items())))

    def _rows(self, samples: Samples) -> tuple[ClassRows, Array]:
        """The rows of some samples, and why each is in no cluster, 0 where it is in one."""
        target, layer, parts = self.view.target, self.view.layer, []
        for shard in samples.shards():
            explained, label = shard["target"][:, target], shard["label"][:]
            is_map = self.view.of == MAPS
            values = shard.cam(layer)[:, target] if is_map else shard[f"pooled/{layer}"][:]
            points, reason = comparable(values, explained, self.view.of, self.settings.blur)
            known = judged(label, shard["top_class"][:, 0], shard["flags"][:])
            right = np.where(known, label == shard["top_class"][:, 0], -1).astype(np.int8)
            sample = shard["sample"][:].astype(np.int64)
            parts.append((sample, points, right, shard["score"][:, target], reason))
        *columns, reasons = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ClassRows(*columns), reasons
