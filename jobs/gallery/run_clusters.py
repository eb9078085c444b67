"""Which images of a run its network treats alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.stored_clusters import Clustering
from shardcam.engine.clusters.settings import rank_key
from shardcam.engine.errors import RunDirectoryError, ShardcamError
from shardcam.engine.run.class_names import ClassName
from shardcam.engine.types import F4, I4
from shardcam.jobs.gallery.row_columns import Columns, Positions

SHOWN = 24  # clusters of a class with their maps and pictures
OUTLIERS = 12  # images of a class
OUTLIER = "outlier ({})"  # a measure, and the clustering that it is of
_ALL = "all"


@dataclass(frozen=True)
class Cluster:
    """A cluster of a class."""

    number: int  # within the class
    rank: int  # among all clusters of the run, from 1
    count: int  # images
    unlikeness: float
    apart: float
    joined: float
    spread: float
    right: float | None
    score: float | None
    stands_out: bool
    nearest: list[int]  # rows of the run
    farthest: list[int]  # of the others


@dataclass(frozen=True)
class ClassClusters:
    """The clusters of a class, the one that is most unlike the rest first."""

    number: int
    name: str
    count: int  # images that were compared
    left_out: dict[str, int]  # others, by the reason
    in_none: int
    clusters: tuple[Cluster, ...]

    @property
    def shown(self) -> tuple[Cluster, ...]:
        """Those with maps and pictures."""
        return self.clusters[:SHOWN]


@dataclass(frozen=True)
class RunClusters:
    """One clustering of the N rows of a run."""

    name: str
    by: str
    of: str
    layer: str
    target: int
    classes: dict[int, ClassClusters]  # the one with the most unlike cluster first
    group: I4  # (N,) the class in which a row was compared
    cluster: I4  # (N,)
    outlier: F4  # (N,)
    stored: Clustering
    sample: npt.NDArray[np.int64]  # (N,) ascending

    @property
    def ranked(self) -> list[tuple[ClassClusters, Cluster]]:
        """Clusters of all classes, those that are most unlike the rest of their class first."""
        pairs = [(one, cluster) for one in self.classes.values() for cluster in one.clusters]
        return sorted(pairs, key=lambda pair: pair[1].rank)

    def matching(self, group: int, cluster: int | None) -> npt.NDArray[np.bool_]:
        """(N,) the rows of a class, or of one of its clusters."""
        keep: npt.NDArray[np.bool_] = self.group == group
        if cluster is not None:
            keep &= self.cluster == cluster
        return keep

    def outliers(self, number: int) -> list[int]:
        """The rows of a class that are most unlike their neighbours, those first."""
        rows = np.flatnonzero((self.group == number) & np.isfinite(self.outlier))
        order = np.argsort(-self.outlier[rows], kind="stable")[:OUTLIERS]
        found: list[int] = rows[order].tolist()
        return found


def read_clusters(
    run: Run, columns: Columns, name_of: ClassName
) -> tuple[tuple[RunClusters, ...], tuple[str, ...]]:
    """Each clustering of a run, and of which there is none, and why."""
    try:
        stored = run.clusters
    except ShardcamError as error:
        return (), (f"The clusters are not shown: {error}",)
    found, notes = list[RunClusters](), list[str]()
    sample = run["sample"][:] if stored else np.empty(0, np.int64)
    for name, one in stored.items():
        try:
            found.append(_read(name, one, columns, sample, name_of))
        except ShardcamError as error:
            notes.append(f"The clusters {name} are not shown: {error}")
    return tuple(found), tuple(notes)


def _read(
    name: str,
    stored: Clustering,
    columns: Columns,
    sample: npt.NDArray[np.int64],
    name_of: ClassName,
) -> RunClusters:
    summary = stored.summary
    try:
        by = str(summary["by"])
        group = {"predicted": columns.predicted, "label": columns.label}.get(
            by, np.zeros(len(columns), np.int32)
        )
        classes = _classes(summary, by, sample, name_of)
        view = str(summary["of"]), str(summary["layer"]), int(summary["target"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        words = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunDirectoryError(
            f"clusters/summary.json: {name}: damaged: {words[:200]}; cluster writes it again"
        ) from error
    rows = stored.columns()
    return RunClusters(
        name, by, *view, classes, group, rows["cluster"], rows["outlier"], stored, sample
    )


def _classes(
    summary: Mapping[str, Any], by: str, sample: npt.NDArray[np.int64], name_of: ClassName
) -> dict[int, ClassClusters]:
    limit = float(summary["stands_out"])
    every = [
        (float(one["unlikeness"]), int(one["count"]), int(number), int(one["cluster"]))
        for number, stored in summary["classes"].items()
        for one in stored["clusters"]
    ]
    order = sorted(every, key=lambda one: rank_key(*one))
    ranks = {(number, cluster): rank for rank, (_, _, number, cluster) in enumerate(order, 1)}
    found = []
    for text, stored in summary["classes"].items():
        number = int(text)
        clusters = [
            _cluster(one, ranks[number, int(one["cluster"])], limit, sample)
            for one in stored["clusters"]
        ]
        found.append(
            ClassClusters(
                number,
                _ALL if by == _ALL else name_of(number),
                int(stored["count"]),
                {str(reason): int(count) for reason, count in stored["left_out"].items()},
                int(stored["in_none"]),
                tuple(sorted(clusters, key=lambda one: one.rank)),
            )
        )
    found.sort(key=lambda one: one.clusters[0].rank if one.clusters else len(ranks) + 1)
    return {one.number: one for one in found}


def _cluster(
    stored: Mapping[str, Any], rank: int, limit: float, sample: npt.NDArray[np.int64]
) -> Cluster:
    unlikeness, apart, joined, spread = (
        float(stored[name]) for name in ("unlikeness", "apart", "joined", "spread")
    )
    right, score = (
        None if stored[name] is None else float(stored[name]) for name in ("right", "score")
    )
    near, far = (rows_of(stored[name], sample)[0].tolist() for name in ("nearest", "farthest"))
    return Cluster(
        number=int(stored["cluster"]),
        rank=rank,
        count=int(stored["count"]),
        unlikeness=unlikeness,
        apart=apart,
        joined=joined,
        spread=spread,
        right=right,
        score=score,
        stands_out=unlikeness >= limit,
        nearest=near,
        farthest=[row for row in far if row not in near],
    )


def rows_of(wanted: Any, sample: npt.NDArray[np.int64]) -> tuple[Positions, npt.NDArray[np.bool_]]:
    """Rows of samples by their positions in the listing, and which of them there are."""
    positions = np.asarray(wanted, np.int64)
    rows = np.minimum(np.searchsorted(sample, positions), max(len(sample) - 1, 0))
    there = sample[rows] == positions if len(sample) else np.zeros(len(positions), bool)
    return rows[there], there
