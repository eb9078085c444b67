"""What a report shows of clusters: on its pages, and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.types import F8, U1
from shardcam.jobs.gallery.heatmap_pictures import data_uri, draw_mean
from shardcam.jobs.gallery.row_columns import Positions
from shardcam.jobs.gallery.run_clusters import Cluster, RunClusters, rows_of

RANKED = 200  # clusters of the table
POINTS = 2000  # of the plane of a class
FEW = 50  # points of a cluster that are there, at least, if it has so many
PLANE = 1000  # length of its sides
SEED, WIDEST = 12, 70  # between points in one place, and the radius of all of them
FILE_CLASSES = 24  # classes in a file, of all clusterings together
FILE_PICTURES = 480  # images in a file because of their clusters


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
    rows, there = rows_of(stored["sample"], shown.sample)
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
