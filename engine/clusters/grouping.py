"""From the embedding of maps to clusters, and to a plane to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.manifold import TSNE

from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.clusters.settings import SPECTRAL, T_SNE
from shardcam.engine.clusters.spectral import on_sphere
from shardcam.engine.types import F4, F8, I4

NONE = -1  # the cluster of what is in none
_STARTS = 4  # of k-means: the best is taken
_SMALLEST = 5  # rows of a cluster of HDBSCAN
_PERPLEXITY = 30


def k_means(vectors: F8, count: int, seed: int) -> I4:
    """(N,m) eigenvectors -> (N,) clusters, on the first `count` of them, rows scaled to length 1.

    The largest cluster is 0. Rows of zeros are in none.
    """
    rows = on_sphere(vectors[:, :count])
    kept = rows.any(axis=1)
    found = np.full(len(rows), NONE, np.int32)
    if kept.any():
        distinct = len(np.unique(rows[kept].round(9), axis=0))
        model = KMeans(min(count, distinct), n_init=_STARTS, random_state=seed)
        found[kept] = model.fit_predict(rows[kept])
    return by_size(found)


def hdbscan(vectors: F8, count: int, smallest: int = _SMALLEST) -> I4:
    """The same by density, as many as it finds; rows that are in no dense place are in none."""
    rows = on_sphere(vectors[:, :count])
    if len(rows) < max(smallest, 2):
        return np.zeros(len(rows), np.int32)
    found: I4 = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(rows)
    return by_size(found)


def by_size(clusters: npt.NDArray[Any]) -> I4:
    """The same clusters, numbered from the largest; of equal ones the first row's comes first."""
    numbers, first, sizes = np.unique(clusters, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    order = order[numbers[order] != NONE]
    renumbered = np.full(len(numbers), NONE, np.int32)
    renumbered[order] = np.arange(len(order))
    found: I4 = renumbered[np.searchsorted(numbers, clusters)]
    return found


def plane(vectors: F8, kind: str, seed: int) -> F4:
    """(N,m) eigenvectors -> (N,2) places on a plane, for looking.

    ``spectral``: the second and third eigenvector, rows of all scaled to length 1. ``tsne`` and
    ``umap`` keep neighbours, not distances.

    Raises
    ------
    ConfigError
        umap-learn is not installed.
    """
    rows = on_sphere(vectors)
    if kind == SPECTRAL or len(rows) <= 3:
        two = np.zeros((len(rows), 2), np.float32)
        some = rows[:, 1:3]
        two[:, : some.shape[1]] = some
        return two
    if kind == T_SNE:
        perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
        start = "pca" if rows.shape[1] > 1 else "random"
        model: Any = TSNE(init=start, perplexity=perplexity, random_state=seed)
    else:
        umap = require("umap", "--plane umap")
        model = umap.UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1)
    found: F4 = model.fit_transform(rows.astype(np.float32)).astype(np.float32)
    return found
