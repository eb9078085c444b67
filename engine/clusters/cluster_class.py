"""All that is found out about the images of one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from shardcam.engine.clusters.grouping import hdbscan, k_means, plane
from shardcam.engine.clusters.neighbours import nearest, nearest_about
from shardcam.engine.clusters.settings import BY_DENSITY, Settings
from shardcam.engine.clusters.spectral import affinity, eigengap, leading
from shardcam.engine.clusters.unlikeness import unlikeness
from shardcam.engine.types import F4, I4, I8

Array = npt.NDArray[Any]
SHOWN = 12  # nearest and farthest images of a cluster
_SHARE = 10  # a row has at most a tenth of the others as neighbours
_FEWEST = 3  # neighbours, all the same
_TRIED = range(2, 9)  # clusters of a class
_NEARLY = 0.95  # of the clearest cluster, for which no more clusters are taken


@dataclass(frozen=True)
class ClassRows:
    """The n rows of a class that can be compared."""

    sample: I8  # (n,)
    points: F4  # (n,D)
    right: Array  # (n,) int8: whether the prediction is right, -1 where that is unknown
    score: F4  # (n,) of the explained class

    def take(self, rows: Array) -> ClassRows:
        return ClassRows(self.sample[rows], self.points[rows], self.right[rows], self.score[rows])


def cluster_class(
    rows: ClassRows, settings: Settings, order: int, threads: int
) -> dict[str, Array]:
    """Cluster the rows of a class: a dataset for each name; see docs/strategies.md.

    The outcome does not depend on the number of threads. `order`: see `unlikeness`.
    """
    with threadpool_limits(1):  # of BLAS and OpenMP: they sum in another order with another number
        return _clustered(rows, settings, order, threads)


def _clustered(rows: ClassRows, settings: Settings, order: int, threads: int) -> dict[str, Array]:
    points, seed, total = rows.points, settings.seed, len(rows.points)
    wanted = min(settings.neighbours, max(_FEWEST, total // _SHARE))
    if total > settings.exact_to:
        neighbours, distances = nearest_about(points, wanted, seed, threads)
    else:
        neighbours, distances = nearest(points, wanted, threads)
    graph = affinity(neighbours)
    values, vectors = leading(graph, settings.vectors, seed)
    suggested = eigengap(values)
    if settings.clustering == BY_DENSITY:
        cuts = [hdbscan(vectors, max(settings.clusters or suggested, 2))]
    elif settings.clusters:
        cuts = [k_means(vectors, settings.clusters, seed)]
    else:
        tried = sorted({suggested, *(number for number in _TRIED if number < len(values))})
        cuts = [k_means(vectors, number, seed) for number in tried]
    measured = [unlikeness(points, cut, graph, values, order) for cut in cuts]
    clearest = np.array([one.unlike.max(initial=0) for one in measured])
    best = int(np.argmax(clearest >= _NEARLY * clearest.max()))
    if len(cuts) > 1 and not clearest.max():
        best = tried.index(suggested)
    clusters, found = cuts[best], measured[best]
    away = distances.mean(axis=1) if distances.shape[1] else np.zeros(total)
    usual = (float(np.median(away)) or float(away.mean()) or 1.0) if total else 1.0
    return {
        "sample": rows.sample,
        "cluster": clusters,
        "embedding": plane(vectors, settings.plane, seed),
        "outlier": (away / usual).astype(np.float32),
        "spectral": vectors.astype(np.float32),
        "eigenvalue": values,
        "suggested": np.array([suggested]),
        "mean": (points.sum(axis=0, dtype=np.float64)[None] / max(total, 1)).astype(np.float32),
        "of_cluster/apart": found.apart,
        "of_cluster/joined": found.joined,
        "of_cluster/unlikeness": found.unlike,
        **_described(rows, clusters),
    }


def _described(rows: ClassRows, clusters: I4) -> dict[str, Array]:
    """What is known of each cluster, and how far each row is from the average of its own."""
    count, dims = int(clusters.max(initial=-1)) + 1, rows.points.shape[1]
    distance = np.full(len(clusters), np.nan, np.float32)
    table: dict[str, Array] = {
        "count": np.zeros(count, np.int64),
        "right": np.full(count, np.nan),
        "score": np.full(count, np.nan),
        "spread": np.zeros(count),
        "mean": np.zeros((count, dims), np.float32),
        "deviation": np.zeros((count, dims), np.float32),
        "nearest": np.full((count, SHOWN), -1, np.int64),
        "farthest": np.full((count, SHOWN), -1, np.int64),
    }
    for number in range(count):
        inside = np.flatnonzero(clusters == number)
        own = rows.points[inside].astype(np.float64)
        mean = own.mean(axis=0)
        away = np.sqrt(((own - mean) ** 2).sum(axis=1))
        distance[inside] = away
        judged = rows.right[inside] >= 0
        table["count"][number] = len(inside)
        if judged.any():
            table["right"][number] = rows.right[inside][judged].mean()
        scores = rows.score[inside]
        if np.isfinite(scores).any():
            table["score"][number] = np.nanmean(scores.astype(np.float64))
        table["mean"][number], table["deviation"][number] = mean, own.std(axis=0)
        table["spread"][number] = np.sqrt((away**2).mean())
        by_distance = rows.sample[inside[np.argsort(away, kind="stable")]]
        shown = min(SHOWN, len(inside))
        table["nearest"][number, :shown] = by_distance[:shown]
        table["farthest"][number, :shown] = by_distance[::-1][:shown]
    return {"distance": distance} | {f"of_cluster/{name}": one for name, one in table.items()}
