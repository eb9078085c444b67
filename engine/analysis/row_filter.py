"""Which rows of a run meet conditions on their classes, scores and flags."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import NO_CLASS, NO_LABEL, Flag

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Classes = int | Collection[int] | None


class RowColumns(Protocol):
    """Columns of N rows; a filter looks only at those that it needs."""

    def __len__(self) -> int: ...

    @property
    def label(self) -> Array:
        """(N,) int32, NO_LABEL where there is none."""
        ...

    @property
    def predicted(self) -> Array:
        """(N,) int32, the class with the highest score, NO_CLASS where there is none."""
        ...

    @property
    def score(self) -> Array:
        """(N,) float32, the score of that class."""
        ...

    @property
    def flags(self) -> Array:
        """(N,) uint8, bits of Flag."""
        ...


@dataclass(frozen=True, kw_only=True)
class RowFilter:
    """Conditions on a row; None: any value will do."""

    predicted: Classes = None
    label: Classes = None
    min_score: float | None = None
    max_score: float | None = None
    flags: int | None = None  # the very value
    flag: int | None = None  # a bit that is set
    correct: bool | None = None  # rows of which `judged` says no are neither

    def matching(self, columns: RowColumns) -> Mask:
        """(N,) whether a row meets every condition.

        Raises
        ------
        ConfigError
            Something given is not a class number.
        """
        keep = np.ones(len(columns), bool)
        if self.predicted is not None:
            keep &= is_one_of("predicted", columns.predicted, self.predicted)
        if self.label is not None:
            keep &= is_one_of("label", columns.label, self.label)
        if self.min_score is not None:
            keep &= columns.score >= self.min_score
        if self.max_score is not None:
            keep &= columns.score <= self.max_score
        if self.flags is not None:
            keep &= columns.flags == self.flags
        if self.flag is not None:
            keep &= columns.flags & self.flag != 0
        if self.correct is not None:
            right = columns.label == columns.predicted
            known = judged(columns.label, columns.predicted, columns.flags)
            keep &= known & (right == self.correct)
        return keep


def judged(label: Array, predicted: Array, flags: Array) -> Mask:
    """(N,) whether a prediction is right or wrong.

    There is a label, and the network claims classes: all rows have one but for those whose
    logits are not finite.
    """
    known: Mask = (label != NO_LABEL) & ((predicted != NO_CLASS) | (flags & Flag.NON_FINITE != 0))
    return known


def is_one_of(name: str, found: Array, wanted: int | Collection[int]) -> Mask:
    """(N,) whether a number is the one that is wanted, or one of those.

    Raises
    ------
    ConfigError
        They are no numbers; `name` says what they are.
    """
    classes = np.array(list(wanted) if isinstance(wanted, Collection) else wanted)
    if classes.size and classes.dtype.kind not in "iu":
        raise ConfigError(f"{name}: expected class numbers, got {wanted!r}")
    return np.isin(found, classes)
