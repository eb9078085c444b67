"""Metrics that ask the network about changed pictures: one more pass of each, or tens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shardcam.engine.evaluation.explained_pairs import PGC, SIGNED, XPLIQUE, Pairs
from shardcam.engine.evaluation.metric import Array, ImageRows, Measured, PassMetric, Reason
from shardcam.engine.evaluation.passes import Passes
from shardcam.engine.evaluation.pixel_curves import Curve, Road
from shardcam.engine.evaluation.score_changes import Adcc, Arcc, Coherency, ScoreChange
from shardcam.engine.types import F4, NO_CLASS, U1


def measure_passes(
    metrics: Sequence[PassMetric],
    pictures: F4,
    maps: F4,
    rows: ImageRows,
    passes: Passes,
    seed: int = 0,
) -> dict[str, Measured]:
    """Measure a batch of images, or more: what metrics have in common is computed once.

    Parameters
    ----------
    metrics
        Of different names.
    pictures : (n,C,H,W) float32
        What the network is given of the images, normalised.
    maps : (n,K,h,w) float32
        Raw signed maps of one layer, NaN where there is none.
    rows
        What the run says of the images; of them its targets, scores and samples are used.
    passes
        Of the run's network.
    seed
        Of the noise.

    Returns
    -------
    dict
        By the metrics' names.
    """
    reason = _reasons(maps, rows)
    found = {one.name: Measured(_nan(reason.shape), reason.copy()) for one in metrics}
    columns: dict[str, dict[str, Array]] = {name: {} for name in found}
    every = np.argwhere(reason == Reason.MEASURED)
    explained = frozenset(one.explained for one in metrics if one.explained is not None)
    for start in range(0, len(every), passes.rows):
        image, column = every[start : start + passes.rows].T
        seen, picture = np.unique(image, return_inverse=True)
        pairs = Pairs(
            passes,
            pictures[seen],
            picture.astype(np.int64).reshape(-1),
            rows.sample[image],
            np.ascontiguousarray(maps[image, column]),
            rows.target[image, column],
            rows.score[image, column],
            seed,
            explained,
        )
        for one in metrics:
            value, more = one.of(pairs)
            found[one.name].value[image, column] = value
            for name, values in more.items():
                shape = *reason.shape, *values.shape[1:]
                columns[one.name].setdefault(name, _nan(shape))[image, column] = values
    for measured in found.values():
        missing = (measured.reason == Reason.MEASURED) & ~np.isfinite(measured.value)
        measured.reason[missing] = Reason.NO_SCORE
    return {name: replace(one, columns=columns[name]) for name, one in found.items()}


def _reasons(maps: F4, rows: ImageRows) -> U1:
    """(n,K) why a class of an image cannot be measured."""
    with np.errstate(invalid="ignore"):
        positive = np.maximum(maps, 0)
        flat = ~(positive.max(axis=(2, 3)) > positive.min(axis=(2, 3)))
    flat |= ~np.isfinite(maps).all(axis=(2, 3))
    reason = np.where(flat, np.uint8(Reason.NO_MAP), np.uint8(Reason.MEASURED))
    reason[(reason == Reason.MEASURED) & ~np.isfinite(rows.score)] = Reason.NO_SCORE
    reason[rows.target == NO_CLASS] = Reason.NO_CLASS
    return reason


def _nan(shape: tuple[int, ...]) -> F4:
    return np.full(shape, np.nan, np.float32)


def _torchcam(name: str) -> Curve:
    return Curve(
        f"{name}:torchcam",
        name == "insertion",
        ties="rising",
        steps="20 steps",
        blurs=False,
        true_fractions=True,
    )


_EACH_TEN = tuple(range(10, 100, 10))

_ALL: tuple[PassMetric, ...] = (
    ScoreChange("average_drop", "drop"),
    ScoreChange("average_drop:torchcam", "drop", epsilon=1e-7),
    ScoreChange("average_drop:pgc", "drop", PGC, absolute=True),
    ScoreChange("average_drop:xplique", "drop", XPLIQUE, epsilon=1e-8),
    ScoreChange("average_increase", "increase"),
    ScoreChange("average_increase:pgc", "increase", PGC),
    ScoreChange("average_increase:xplique", "increase", XPLIQUE),
    ScoreChange("average_gain", "gain"),
    ScoreChange("average_gain:xplique", "gain", XPLIQUE, epsilon=1e-8),
    Coherency("coherency"),
    Coherency("coherency:pgc", PGC, epsilon=1e-8),
    Adcc("adcc"),
    Arcc("arcc"),
    *(
        metric
        for name in ("insertion", "deletion")
        for metric in (
            Curve(name, name == "insertion"),
            Curve(f"{name}:row", name == "insertion", steps="1 row a step"),
            Curve(f"{name}:signed", name == "insertion", SIGNED),
            _torchcam(name),
            Curve(f"{name}:xplique", name == "insertion", XPLIQUE, steps="11 points", blurs=False),
        )
    ),
    *(
        metric
        for name in ("morf", "lerf", "road")
        for metric in (
            Road(name, name),
            Road(f"{name}:pgc", name, _EACH_TEN, PGC, pixels=False, change=name != "road"),
        )
    ),
)
PASS_METRICS: Mapping[str, PassMetric] = {one.name: one for one in _ALL}
"""Those that are known, by name."""
