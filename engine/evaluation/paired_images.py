"""The same images in two runs, and what was measured of them in both."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.evaluation.running_mean import RunningMean
from shardcam.engine.types import F4, F8, I8, NO_CLASS

Array = npt.NDArray[Any]
TOGETHER = 128  # images whose maps are held at once


@dataclass(frozen=True)
class PairedMetrics:
    """What was measured of two runs, image by image; N rows of the reference."""

    rows: I8  # (N,) of the other with the same key, -1 where there is none
    first: dict[str, F4]  # (N,) the other's value minus the reference's, of its first class
    figures: dict[str, Figure]  # the same of all classes that both explain, as `Comparison.metrics`


@dataclass(frozen=True)
class ImagePairs:
    """Some images of both runs, and which of their maps belong together."""

    part: Samples
    rows: tuple[I8, I8]  # of the images
    keys: list[str]
    pairs: tuple[I8, I8, I8]  # image of the block, and which of its classes in each run
    classes: Array  # (pairs,) of the reference


def pair_metrics(reference: Run, other: Run, names: Collection[str]) -> PairedMetrics:
    """Compare what was measured of two runs, image by image, without looking at their maps.

    Parameters
    ----------
    names
        Metrics of both.

    Raises
    ------
    RunDirectoryError
        A run is damaged.
    """
    means = {name: RunningMean() for name in names}
    rows = np.full(len(reference), -1)
    first = {name: np.full(len(reference), np.nan, np.float32) for name in names}
    for start, block in image_pairs(reference, other, by_class=True):
        (here, there), (image, k, _) = block.rows, block.pairs
        rows[start + here] = there
        for name, difference in differences_of(block, other, names).items():
            means[name].add(difference)
            first[name][start + here[image[k == 0]]] = difference[k == 0]
    return PairedMetrics(rows, first, {name: mean.figure() for name, mean in means.items()})


def image_pairs(reference: Run, other: Run, by_class: bool) -> Iterator[tuple[int, ImagePairs]]:
    """The images of both, some at a time, and in which row of the first their shard begins."""
    keys, start = KeyRows(other), 0
    for part in reference.shards():
        every = part["key"][:]
        found = keys.find(every)
        both = np.flatnonzero(found >= 0)
        for first in range(0, len(both), TOGETHER):
            here = both[first : first + TOGETHER]
            yield start, _block(part, other, here, found[here], every[here], by_class)
        start += len(part)


def _block(
    part: Samples, other: Run, here: I8, there: I8, keys: Array, by_class: bool
) -> ImagePairs:
    mine, theirs = part["target"][here], other["target"][there]
    if by_class:
        same = (mine[:, :, None] == theirs[:, None, :]) & (mine != NO_CLASS)[:, :, None]
    else:
        same = np.broadcast_to(
            np.eye(mine.shape[1], theirs.shape[1], dtype=bool),
            (len(mine), mine.shape[1], theirs.shape[1]),
        )
        same = same & (mine != NO_CLASS)[:, :, None] & (theirs != NO_CLASS)[:, None, :]
    image, k, other_k = np.nonzero(same)
    texts = [key.decode(errors="backslashreplace") for key in keys.tolist()]
    return ImagePairs(part, (here, there), texts, (image, k, other_k), mine[image, k])


def differences_of(block: ImagePairs, other: Run, names: Collection[str]) -> dict[str, F8]:
    """(pairs,) of each metric: the other's value minus the reference's."""
    (here, there), (image, k, other_k) = block.rows, block.pairs
    found = {}
    for name in names:
        theirs = other.take(there).metric(name)[_places(there)]
        mine = block.part.take(here).metric(name)
        found[name] = (theirs[image, other_k] - mine[image, k]).astype(np.float64)
    return found


def _places(rows: I8) -> I8:
    """Where each row is among the distinct ones, which are taken in ascending order."""
    return np.unique(rows, return_inverse=True)[1]


class KeyRows:
    """Which row of a run has a key: 16 bytes for each."""

    def __init__(self, run: Run) -> None:
        parts = [_hashes(part["key"][:]) for part in run.shards()]
        hashes = np.concatenate(parts or [np.empty(0, np.uint64)])
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]
        self._keys = run["key"]

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, keys: Array) -> I8:
        """(n,) keys -> (n,) rows, -1 where there is none."""
        if not len(self):
            return np.full(len(keys), -1)
        hashes = _hashes(keys)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        rows = np.where(self._hashes[places] == hashes, self._rows[places], -1)
        found = np.flatnonzero(rows >= 0)
        rows[found[self._keys[rows[found]] != keys[found]]] = -1  # equal by their hashes alone
        return rows


def _hashes(keys: Array) -> npt.NDArray[np.uint64]:
    digests = (hashlib.blake2b(key, digest_size=8).digest() for key in keys.tolist())
    return np.frombuffer(b"".join(digests), np.uint64)
