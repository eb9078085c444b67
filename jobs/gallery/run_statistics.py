"""Distributions over all rows of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardcam.engine.run.class_names import ClassName
from shardcam.engine.types import NO_CLASS, Flag
from shardcam.jobs.gallery.row_columns import Columns

BINS = 20  # of the score, 0 to 1
FREQUENT = 20  # classes that are shown by themselves
FLAGS = {flag.value: flag.words for flag in Flag}


@dataclass(frozen=True)
class Bin:
    """Rows by the score of their predicted class."""

    low: float
    high: float
    right: int
    wrong: int
    unlabelled: int

    @property
    def count(self) -> int:
        """All of them."""
        return self.right + self.wrong + self.unlabelled


@dataclass(frozen=True)
class ClassCount:
    """How often a class was predicted."""

    number: int
    name: str
    count: int
    right: int  # of which the label says so too


@dataclass(frozen=True)
class Statistics:
    """Of all rows."""

    rows: int
    claims: bool  # the network claims classes
    labelled: int
    correct: int
    bins: tuple[Bin, ...]
    no_score: int  # rows whose score is not a number
    median: float | None  # of the score
    classes: tuple[ClassCount, ...]  # the most frequent first
    other_classes: int  # how many more were predicted
    flags: dict[str, int]  # rows with each flag, those that came


def measure(columns: Columns, name_of: ClassName) -> Statistics:
    """Count all rows."""
    finite = np.isfinite(columns.score)
    found = columns.predicted[columns.predicted != NO_CLASS]
    numbers, counts = np.unique(found, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    right = columns.predicted[columns.correct]
    classes = tuple(
        ClassCount(number, name_of(number), count, int((right == number).sum()))
        for number, count in zip(
            numbers[order[:FREQUENT]].tolist(), counts[order[:FREQUENT]].tolist(), strict=True
        )
    )
    flags = {words: int((columns.flags & bit != 0).sum()) for bit, words in FLAGS.items()}
    return Statistics(
        rows=len(columns),
        claims=bool(len(found) or (columns.flags & Flag.NON_FINITE).any() or not len(columns)),
        labelled=int(columns.labelled.sum()),
        correct=int(columns.correct.sum()),
        bins=_bins(columns),
        no_score=int((~finite).sum()),
        median=float(np.median(columns.score[finite])) if finite.any() else None,
        classes=classes,
        other_classes=len(numbers) - len(classes),
        flags={words: count for words, count in flags.items() if count},
    )


def flag_words(flags: int) -> list[str]:
    """What the flags of a sample say."""
    return [words for bit, words in FLAGS.items() if flags & bit]


def _bins(columns: Columns) -> tuple[Bin, ...]:
    labelled, correct = columns.labelled, columns.correct
    groups = (correct, labelled & ~correct, ~labelled)
    edges = np.linspace(0, 1, BINS + 1).tolist()
    counts = [_histogram(columns, group).tolist() for group in groups]
    return tuple(map(Bin, edges[:-1], edges[1:], *counts))


def _histogram(columns: Columns, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    score = columns.score[group & np.isfinite(columns.score)]
    return np.histogram(np.clip(score, 0, 1), BINS, (0, 1))[0]
