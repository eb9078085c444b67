"""The k nearest neighbours of every row, without a matrix of all distances."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.types import F4, F8, I8

_GROUPS = 8  # groups of columns for each neighbour that is looked for
_ROWS, _COLUMNS = 128, 8192  # of the products that a thread holds at once
_PAIRS = 1024  # whose differences a thread holds at once


def nearest(points: F4, count: int, threads: int = 1) -> tuple[I8, F8]:
    """(N,D) -> (N,k) rows, the nearest first, and (N,k) their Euclidean distances.

    A row is no neighbour of itself, but copies of it are. Of points that are equally near the one
    that comes first is taken, with all its copies. k is `count`, or N-1 if that is less. The
    result depends on the points alone: products in float32 only find who comes into question,
    with a margin for their rounding; distances are differences in float64.

    Parameters
    ----------
    points
        Finite.
    count
        Neighbours, from 1.
    threads
        Blocks at once; memory holds some 10 MB for each, and N x k numbers.
    """
    count = min(count, len(points) - 1)
    if count < 1:
        return np.empty((len(points), 0), np.int64), np.empty((len(points), 0))
    order, starts, group = _copies(points)
    distinct = points[order[starts]]
    rows, distances = _nearest_distinct(distinct, min(count, len(distinct) - 1), threads)
    return _with_copies(order, starts, group, rows, distances, count)


def _copies(points: F4) -> tuple[I8, I8, I8]:
    """Rows by distinct point, where each point's begin in them, and (N,) the point of each row.

    Points are numbered by their first rows.
    """
    whole = np.ascontiguousarray(points + np.float32(0))  # -0 is 0
    _, first, inverse = np.unique(
        whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel(),
        return_index=True,
        return_inverse=True,
    )
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    group = number[inverse.ravel()]
    order = np.argsort(group, kind="stable")
    return order, np.flatnonzero(np.diff(group[order], prepend=-1)), group


def _nearest_distinct(points: F4, count: int, threads: int) -> tuple[I8, F8]:
    """As `nearest`, of points that are all different."""
    total, dims = points.shape
    rows, distances = np.empty((total, count), np.int64), np.empty((total, count))
    if not count:
        return rows, distances
    groups = min(total, _GROUPS * count)
    parts = max(1, round(total / max(_COLUMNS, groups)))
    wide = -(-total // (parts * groups)) * groups
    centred = points - points.mean(axis=0)  # products of small numbers are more exact
    squares = (centred * centred).sum(axis=1)
    # |x - y|^2 - |x|^2 = -2 x.y + |y|^2 in one product; rows that fill a part up are far away.
    others = np.zeros((parts * wide, dims + 1), np.float32)
    others[:total, :dims], others[:, dims] = centred, np.inf
    others[:total, dims] = squares
    margin = 8 * (dims + 4) * np.finfo(np.float32).eps * squares.max()

    def find(start: int) -> None:
        own = np.arange(start, min(start + _ROWS, total))
        asked = np.concatenate([-2 * centred[own], np.ones((len(own), 1), np.float32)], axis=1)
        lowest = np.full((len(own), count), np.inf, np.float32)
        near, found = np.empty((len(own), wide), np.float32), []
        for first in range(0, len(others), wide):
            np.matmul(asked, others[first : first + wide].T, out=near)
            inside = own[(own >= first) & (own < first + wide)]
            near[inside - start, inside - first] = np.inf
            smallest = near.reshape(len(own), -1, groups).min(axis=1)
            lowest = np.partition(np.concatenate([lowest, smallest], axis=1), count - 1, axis=1)
            lowest = lowest[:, :count]
            at = np.flatnonzero(near <= lowest[:, -1:] + margin)
            row, column = np.divmod(at, wide)
            found.append((row, column + first, near.ravel()[at]))
        row, column, about = map(np.concatenate, zip(*found, strict=True))
        kept = np.flatnonzero(about <= lowest[row, -1] + margin)
        kept = kept[np.argsort(row[kept], kind="stable")]
        row, column = row[kept], column[kept]
        # A line for each row, whose columns rise, so that the first of those equally near wins.
        sizes = np.bincount(row, minlength=len(own))
        place = row, np.arange(len(row)) - (np.cumsum(sizes) - sizes)[row]
        exact = np.full((len(own), sizes.max()), np.inf)
        columns = np.zeros(exact.shape, np.int64)
        exact[place], columns[place] = _distances(points, own[row], column), column
        chosen = np.argsort(exact, axis=1, kind="stable")[:, :count]
        distances[own] = np.take_along_axis(exact, chosen, axis=1)
        rows[own] = np.take_along_axis(columns, chosen, axis=1)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(find, range(0, total, _ROWS)):
            pass
    return rows, distances


def _distances(points: F4, first: I8, second: I8) -> F8:
    found = np.empty(len(first))
    for start in range(0, len(first), _PAIRS):
        some = slice(start, start + _PAIRS)
        apart = points[first[some]].astype(np.float64) - points[second[some]]
        found[some] = np.sqrt((apart * apart).sum(axis=1))
    return found


def _with_copies(
    order: I8, starts: I8, group: I8, rows: I8, distances: F8, count: int
) -> tuple[I8, F8]:
    """From neighbours of distinct points to neighbours of rows, of which some are copies."""
    if len(starts) == len(order):
        return rows, distances
    sizes = np.diff(starts, append=len(order))
    number = np.arange(len(starts))[:, None]
    points = np.concatenate([number, rows], axis=1)  # of each point: itself, then the others
    away = np.concatenate([np.zeros((len(starts), 1)), distances], axis=1)
    ends = np.minimum(np.cumsum(sizes[points], axis=1), count + 1)
    members, apart = (
        np.empty((len(starts), count + 1), np.int64),
        np.empty((len(starts), count + 1)),
    )
    for place in range(count + 1):  # the place-th row, over all points in turn
        which = (ends <= place).sum(axis=1)[:, None]
        point = np.take_along_axis(points, which, axis=1)[:, 0]
        before = np.take_along_axis(np.pad(ends, ((0, 0), (1, 0))), which, axis=1)[:, 0]
        members[:, place] = order[starts[point] + place - before]
        apart[:, place] = np.take_along_axis(away, which, axis=1)[:, 0]
    members, apart = members[group], apart[group]
    kept = members != np.arange(len(order))[:, None]
    kept[kept.all(axis=1), -1] = False
    return members[kept].reshape(-1, count), apart[kept].reshape(-1, count)


def nearest_about(points: F4, count: int, seed: int, threads: int = 1) -> tuple[I8, F8]:
    """As `nearest`, but a few of the neighbours may be others: for more rows than can be compared.

    Raises
    ------
    ConfigError
        pynndescent is not installed.
    """
    descent = require("pynndescent", "an approximate search for neighbours")
    count = min(count, len(points) - 1)
    index = descent.NNDescent(points, n_neighbors=count + 1, random_state=seed, n_jobs=threads)
    rows, distances = index.neighbor_graph
    # It finds most rows themselves, first among copies or not at all.
    own = rows == np.arange(len(points))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = len(points), count
    return rows[~own].reshape(shape).astype(np.int64), distances[~own].reshape(shape).astype(float)
