"""The average map of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.errors import ConfigError
from shardcam.engine.types import NO_CLASS, NO_LABEL, Flag

_BY = ("predicted", "label")


@dataclass(frozen=True)
class ClassMeans:
    """C classes, ascending, their numbers of samples and their mean maps."""

    classes: npt.NDArray[np.int64]  # (C,)
    counts: npt.NDArray[np.int64]  # (C,)
    maps: npt.NDArray[np.float64]  # (C,h,w), from 0 to 1


def class_means(samples: Samples, layer: str, by: str = "predicted", target: int = 0) -> ClassMeans:
    """Average normalised maps in one pass, in float64; memory holds one shard and a map per class.

    Parameters
    ----------
    layer
        Whose maps.
    by
        Class by ``predicted``, or by ``label``; samples without a label are left out.
    target
        Which of the explained classes of each sample.

    Samples without that class, and maps that are not finite, are left out. A map that
    is flagged as zero counts as one of zeros; ``select(flags=0)`` leaves it out.

    Raises
    ------
    ConfigError
        `by` is neither, or the layer has no maps, or maps of several sizes.
    IndexError
        There are not so many targets.
    """
    if by not in _BY:
        raise ConfigError(f"by: expected predicted or label, got {by!r}")
    every = samples.cam(layer)
    every._require_target(target)
    shape = every.one_size("class means")
    sums: dict[int, npt.NDArray[np.float64]] = {}
    counts: dict[int, int] = {}
    for shard in samples.shards():
        predicted, flags = shard["top_class"][:, 0], shard["flags"][:]
        classes = shard["label"][:] if by == "label" else predicted
        maps = np.asarray(shard.cam(layer).normalized()[:, target])
        lost = (flags & Flag.NON_FINITE != 0) & ~maps.any(axis=(1, 2))
        lost |= (flags & Flag.NON_FINITE != 0) & (predicted == NO_CLASS)
        keep = (classes != NO_LABEL) & (shard["target"][:, target] != NO_CLASS) & ~lost
        classes, maps = classes[keep], maps[keep]
        order = np.argsort(classes, kind="stable")
        found, starts = np.unique(classes[order], return_index=True)
        totals = np.add.reduceat(maps[order], starts, axis=0, dtype=np.float64)
        many = np.diff([*starts, len(order)])
        for number, total, count in zip(found.tolist(), totals, many.tolist(), strict=True):
            sums[number] = sums[number] + total if number in sums else total
            counts[number] = counts.get(number, 0) + count
    ascending = sorted(sums)
    number_of = np.array([counts[c] for c in ascending], np.int64)
    stacked = np.array([sums[c] for c in ascending], np.float64).reshape(-1, *shape)
    return ClassMeans(np.array(ascending, np.int64), number_of, stacked / number_of[:, None, None])
