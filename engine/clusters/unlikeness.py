"""How unlike the rest of its class a cluster is.

*Apart* is how much of the maps' relevance lies elsewhere: half the sum of the differences between
the average map of the cluster and that of the rest, from 0 to 1. *Joined* is how many edges of the
graph of neighbours leave the cluster, over how many would if it were drawn by lot: 0 for an
island, about 1 for any rows.

Every set can be cut, and any cut of neighbours leaves fewer edges than the lot. So joined is
compared with 1 - the next eigenvalue, which no further cut can be below: where there are clusters,
these are islands for which the next cut is dear; where there are none, the last cut costs as much
as the next one. Nor is an island what has a fifth of the edges that it would have by lot.
*Unlikeness* is apart * (1 - joined / the lesser of both); it is 0 where that is negative, and for a
cluster of more than half of the class, which is what the others are unlike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from shardcam.engine.types import F4, F8, I4

STANDS_OUT = 0.3  # unlikeness of a cluster that should be looked at
_ISLAND = 0.2  # joined, at most


@dataclass(frozen=True)
class Unlikeness:
    """C clusters of a class."""

    apart: F8  # (C,) 0 to 1
    joined: F8  # (C,) from 0
    unlike: F8  # (C,) 0 to 1


def unlikeness(
    points: F4, clusters: I4, graph: csr_array, eigenvalues: F8, order: int
) -> Unlikeness:
    """(N,D) points and (N,) clusters, -1 for none -> how unlike the rest each cluster is.

    Parameters
    ----------
    graph
        (N,N) affinity of the points.
    eigenvalues
        Falling, of `spectral.leading`: the next is that after as many as there are clusters.
    order
        Of the norm in which averages are compared: 1 for maps, 2 for vectors of length 1.
    """
    count = int(clusters.max(initial=-1)) + 1
    apart = _apart(points, clusters, count, order)
    joined = _joined(graph, clusters, count)
    following = eigenvalues[min(count, len(eigenvalues) - 1)] if len(eigenvalues) else 1.0
    dear = min(max(1 - following, np.finfo(float).eps), _ISLAND)
    minor = np.bincount(clusters[clusters >= 0], minlength=count) <= len(clusters) / 2
    return Unlikeness(apart, joined, minor * apart * np.clip(1 - joined / dear, 0, 1))


def _apart(points: F4, clusters: I4, count: int, order: int) -> F8:
    inside = np.flatnonzero(clusters >= 0)
    sizes = np.bincount(clusters[inside], minlength=count)[:, None]
    rest = len(points) - sizes
    each = csr_array((np.ones(len(inside)), (clusters[inside], inside)), (count, len(points)))
    here = each @ points.astype(np.float64)
    there = points.sum(axis=0, dtype=np.float64) - here
    away = here / np.maximum(sizes, 1) - there / np.maximum(rest, 1)
    found: F8 = (rest > 0)[:, 0] * np.linalg.norm(away, order, axis=1) / 2
    return found


def _joined(graph: csr_array, clusters: I4, count: int) -> F8:
    degree, inside = graph.sum(axis=1), clusters >= 0
    own = np.bincount(clusters[inside], degree[inside], count)
    edges = graph.tocoo()
    of = clusters[edges.row]
    within = (of >= 0) & (of == clusters[edges.col])
    leaving = np.maximum(own - np.bincount(of[within], edges.data[within], count), 0)
    lots = own * (degree.sum() - own)
    found: F8 = np.where(lots > 0, leaving * degree.sum() / np.where(lots > 0, lots, 1), 1)
    return found
