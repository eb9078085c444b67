"""Which images of a run its network treats alike, as its report shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.stored_clusters import Clustering
from shardcam.engine.errors import RunDirectoryError, ShardcamError
from shardcam.engine.run.class_names import ClassName
from shardcam.engine.types import F4, I4, U1
from shardcam.jobs.gallery.heatmap_pictures import data_uri, draw_mean
from shardcam.jobs.gallery.row_columns import Columns, Positions

RANKED = 200  # clusters of the table
SHOWN = 24  # clusters of a class with their maps and pictures
OUTLIERS = 12  # images of a class
POINTS = 2000  # of the plane of a class
FEW = 50  # points of a cluster that are there, at least, if it has so many
PLANE = 1000  # length of its sides
SEED, WIDEST = 12, 70  # between points in one place, and the radius of all of them
FILE_CLASSES = 24  # classes in a file, of all clusterings together
FILE_PICTURES = 480  # images in a file because of their clusters
OUTLIER = "outlier ({})"  # a measure, and the clustering that it is of
_ALL = "all"

F8 = npt.NDArray[np.float64]


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
    farthest: list[int]


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


@dataclass(frozen=True)
class ClusterView(Cluster):
    """A cluster with its pictures, as the script is given it."""

    mean: str | None  # of the maps; None: something else was compared
    deviation: str | None


@dataclass(frozen=True)
class Points:
    """P rows on a plane."""

    row: list[int]
    x: list[int]  # 0 to PLANE
    y: list[int]
    cluster: list[int]


@dataclass(frozen=True)
class ClassView:
    """All that is shown of a class, as the script is given it."""

    number: int
    name: str
    count: int
    left_out: dict[str, int]
    in_none: int
    clusters: list[ClusterView]
    others: int  # clusters that are not among them
    outliers: list[int]
    points: Points
    of: int  # images that could be points


@dataclass(frozen=True)
class Group:
    """A class to filter by."""

    number: int
    name: str
    count: int
    clusters: list[tuple[int, int]]  # numbers and counts


@dataclass(frozen=True)
class ShownClusters:
    """A clustering on a page."""

    run: RunClusters
    layer: int | None  # which map of a picture was compared
    groups: list[Group]
    held: dict[int, ClassView] | None  # None: they are asked for


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
    order = sorted(every, key=lambda one: (-one[0], *one[1:]))
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
        nearest=_rows_of(stored["nearest"], sample)[0].tolist(),
        farthest=_rows_of(stored["farthest"], sample)[0].tolist(),
    )


def _rows_of(wanted: Any, sample: npt.NDArray[np.int64]) -> tuple[Positions, npt.NDArray[np.bool_]]:
    """Rows of samples by their positions in the listing, and which of them there are."""
    positions = np.asarray(wanted, np.int64)
    rows = np.minimum(np.searchsorted(sample, positions), max(len(sample) - 1, 0))
    there = sample[rows] == positions if len(sample) else np.zeros(len(positions), bool)
    return rows[there], there


def class_view(shown: RunClusters, number: int, colours: U1) -> ClassView:
    """All that is shown of a class.

    Raises
    ------
    KeyError
        It was not clustered.
    RunDirectoryError
        Its file is damaged.
    """
    one = shown.classes[number]
    stored = shown.stored.of_class(number)
    clusters = [
        ClusterView(
            **vars(cluster),
            mean=_drawn(stored, "of_cluster/mean", cluster.number, colours),
            deviation=_drawn(stored, "of_cluster/deviation", cluster.number, colours),
        )
        for cluster in one.shown
    ]
    points, of = _points(shown, number, stored)
    return ClassView(
        number=number,
        name=one.name,
        count=one.count,
        left_out=one.left_out,
        in_none=one.in_none,
        clusters=clusters,
        others=len(one.clusters) - len(clusters),
        outliers=shown.outliers(number),
        points=points,
        of=of,
    )


def _drawn(
    stored: Mapping[str, npt.NDArray[Any]], name: str, number: int, colours: U1
) -> str | None:
    """A map of a cluster as a picture; None where there is none."""
    maps = stored.get(name)
    if maps is None or maps.ndim != 3 or number >= len(maps) or not np.isfinite(maps[number]).all():
        return None
    return data_uri(draw_mean(maps[number].astype(np.float64), colours))


def _points(
    shown: RunClusters, number: int, stored: Mapping[str, npt.NDArray[Any]]
) -> tuple[Points, int]:
    """The plane of a class: up to POINTS rows, besides those with pictures; and how many it has."""
    rows, there = _rows_of(stored["sample"], shown.sample)
    clusters, places = stored["cluster"][there], stored["embedding"][there].astype(np.float64)
    low, high = (
        (places.min(axis=0), places.max(axis=0)) if len(places) else (np.zeros(2), np.ones(2))
    )
    places = apart(PLANE * (places - low) / np.where(high > low, high - low, 1))
    kept = thinned(clusters, POINTS)
    kept |= np.isin(rows, list(rows_with_pictures(shown, number)))
    x, y = places[kept].round().astype(int).T.tolist() if kept.any() else ([], [])
    return Points(rows[kept].tolist(), x, y, clusters[kept].tolist()), len(rows)


def apart(places: F8) -> F8:
    """(n,2) places, those of several points spread around it, as the seeds of a sunflower."""
    _, place, sizes = np.unique(places.round(), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(place.ravel(), kind="stable")
    turn = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    radius = np.minimum(SEED, WIDEST / np.sqrt(np.repeat(sizes, sizes))) * np.sqrt(turn)
    angle = turn * np.pi * (3 - np.sqrt(5))
    moved = places.copy()
    moved[order] += radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return moved


def thinned(clusters: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    """(n,) which to keep, about `count` of them: of each cluster every so many, FEW at least."""
    keep = np.zeros(len(clusters), bool)
    numbers, sizes = np.unique(clusters, return_counts=True)
    least = min(FEW, count // max(len(numbers), 1))
    for number, size in zip(numbers, sizes.tolist(), strict=True):
        share = min(size, max(least, count * size // len(clusters)))
        inside = np.flatnonzero(clusters == number)
        keep[inside[(np.arange(share) * size) // max(share, 1)]] = True
    return keep


def rows_with_pictures(shown: RunClusters, number: int) -> Iterator[int]:
    """The rows of a class whose pictures are shown: cluster by cluster, and outliers."""
    for cluster in shown.classes[number].shown:
        yield from cluster.nearest
        yield from cluster.farthest
    yield from shown.outliers(number)


def file_classes(every: Sequence[RunClusters]) -> list[list[int]]:
    """The classes of each clustering that a file holds: those with the most unlike clusters."""
    return [list(one.classes)[: max(FILE_CLASSES // len(every), 1)] for one in every]


def file_rows(every: Sequence[RunClusters]) -> Positions:
    """The rows that a file holds because of their clusters, the most unlike cluster's first."""
    found = set[int]()
    for one, numbers in zip(every, file_classes(every), strict=True):
        most = len(found) + FILE_PICTURES // len(every)
        for number in numbers:
            for row in rows_with_pictures(one, number):
                if len(found) < most:
                    found.add(row)
    return np.array(sorted(found), np.intp)


def groups(one: RunClusters, rows: Positions | None = None) -> list[Group]:
    """The classes and clusters that rows are of, to filter by."""
    group, cluster = (
        column if rows is None else column[rows] for column in (one.group, one.cluster)
    )
    pairs, counts = np.unique(np.stack([group, cluster], axis=1), axis=0, return_counts=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for (number, of), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if number in one.classes:
            found.setdefault(number, []).append((of, count))
    made = [
        Group(number, one.classes[number].name, sum(n for _, n in held), held)
        for number, held in found.items()
    ]
    return sorted(made, key=lambda made: (made.name.lower(), made.number))
