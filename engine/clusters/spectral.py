"""From neighbours to the leading eigenvectors of their graph, as spectral clustering has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from shardcam.engine.types import F8, I8

_DENSE = 300  # rows up to which all eigenvectors are computed at once
_PRECISION = 1e-7


def affinity(neighbours: I8) -> csr_array:
    """(N,k) -> (N,N) sparse (A + A^T) / 2, A 1 from each row to each of its neighbours.

    So two rows have 1 where each is a neighbour of the other, and 1/2 where only one is.
    """
    total, count = neighbours.shape
    rows = np.repeat(np.arange(total), count)
    one_way = csr_array((np.ones(total * count), (rows, neighbours.ravel())), shape=(total, total))
    return csr_array((one_way + one_way.T) / 2)


def leading(graph: csr_array, count: int, seed: int = 0) -> tuple[F8, F8]:
    """(N,N) affinity -> (m,) largest eigenvalues of D^-1/2 A D^-1/2, and (N,m) eigenvectors.

    m is `count`, or N if that is less. Each part of the graph that no edge joins with the rest
    has the eigenvalue 1, so parts are solved one by one; of more than `count` parts those with
    the most rows are taken, and the rows of the others are zero.

    Parameters
    ----------
    graph
        Symmetric.
    count
        How many, from 1.
    seed
        Of the vector that the iteration starts with.
    """
    total = graph.shape[0]
    count = min(count, total)
    if not total:
        return np.empty(0), np.empty((0, 0))
    parts, part_of = connected_components(graph, directed=False)
    order = np.argsort(part_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(part_of, minlength=parts))[:-1])
    members = sorted(members, key=len, reverse=True)[:count]
    wanted = count - len(members) + 1  # of each: every other part has one of the largest
    values: list[float] = []
    vectors: list[tuple[I8, F8]] = []
    for rows in members:
        found, columns = _of_part(graph[rows][:, rows] if parts > 1 else graph, wanted, seed)
        values += found.tolist()
        vectors += [(rows, column) for column in columns.T]
    best = np.argsort(-np.round(values, 9), kind="stable")[:count]
    out = np.zeros((total, count))
    for place, number in enumerate(best):
        rows, column = vectors[number]
        out[rows, place] = column
    return np.array(values)[best], out


def _of_part(graph: csr_array, count: int, seed: int) -> tuple[F8, F8]:
    """As `leading`, of a graph whose rows are all joined."""
    total = graph.shape[0]
    count = min(count, total)
    scale = 1 / np.sqrt(np.maximum(graph.sum(axis=1), np.finfo(float).tiny))
    if total == 1:
        return np.ones(1), np.ones((1, 1))
    normalised: Any = diags_array(scale) @ graph @ diags_array(scale)
    if total <= max(_DENSE, 2 * count):
        values, vectors = eigh(normalised.toarray(), subset_by_index=(total - count, total - 1))
    else:
        start = np.random.default_rng(seed).standard_normal(total)
        values, vectors = _iterate(normalised, count, start)
    order = np.argsort(-values, kind="stable")
    values, vectors = values[order], vectors[:, order]
    peaks = np.abs(vectors).argmax(axis=0)
    return values, vectors * np.where(vectors[peaks, np.arange(count)] < 0, -1, 1)


def _iterate(matrix: Any, count: int, start: F8) -> tuple[F8, F8]:
    for basis in (max(2 * count, 20), 6 * count + 60):
        try:
            found: tuple[F8, F8] = eigsh(
                matrix, count, which="LA", v0=start, tol=_PRECISION,
                ncv=min(basis, matrix.shape[0] - 1), maxiter=1000,
            )  # fmt: skip
            return found
        except ArpackNoConvergence as error:
            last = error
    raise last


def on_sphere(vectors: F8) -> F8:
    """Rows scaled to length 1; those of zeros stay."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    scaled: F8 = vectors / np.where(lengths > 0, lengths, 1)
    return scaled


def eigengap(values: F8) -> int:
    """How many clusters falling eigenvalues suggest: as many as come before the widest gap."""
    if len(values) < 2:
        return 1
    return int(np.argmax(values[:-1] - values[1:])) + 1
