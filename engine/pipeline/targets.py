"""Which classes of an image are explained.

``top1``, ``topK``, ``label``, ``labels[:FILE]``, ``class:ID[,ID...]``, ``above:SCORE[,K]``,
``similar:FILE``, ``from:RUN``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import (
    F4,
    I4,
    LABELS,
    NO_CLASS,
    NO_LABEL,
    NO_LINK,
    SIMILAR,
    SOFTMAX,
    Sample,
)

MOST_ABOVE = 10  # classes of an image, of those above a score, if no other number is given
FEW = 10  # classes that are found one by one
_USAGE = (
    "--target takes top1, topK, label, labels[:FILE], class:ID[,ID...], above:SCORE[,K], "
    "similar:FILE or from:RUN"
)

_WITHOUT = {
    LABELS: "the image has no label of a class of the network",
    "given": "the run that --target names explained no class of it",
}


@dataclass(frozen=True)
class Targets:
    """A parsed ``--target``: `kind` is top, label, class, above, labels or given."""

    kind: str
    count: int  # K, classes explained per image
    available: int  # classes the network has
    classes: tuple[int, ...] = ()
    above: float = 0.0
    given: I4 | None = None  # (listed,K) classes of each image of the source

    def choose(self, logits: F4, scores: F4, samples: Sequence[Sample]) -> I4:
        """(N,classes) logits and their scores -> (N,K) class numbers, the highest logit first.

        NO_CLASS in the last columns where fewer than K have a score above `above`.
        """
        if self.kind == "top":
            return top_classes(logits, self.count)
        if self.kind == "above":
            chosen = top_classes(logits, self.count)
            high = np.take_along_axis(scores, chosen, axis=1) > self.above
            return np.where(high, chosen, np.int32(NO_CLASS))
        if self.given is not None:
            return self.given[[s.index for s in samples]]
        if self.kind == "label":
            return np.array([[s.label] for s in samples], np.int32)
        return np.tile(np.array(self.classes, np.int32), (len(samples), 1))

    def refusal(self, sample: Sample) -> str | None:
        """Why this sample has no target, if it has none."""
        if self.given is not None and (self.given[sample.index] == NO_CLASS).all():
            return _WITHOUT[self.kind]
        if self.kind != "label" or 0 <= sample.label < self.available:
            return None
        if sample.label == NO_LABEL:
            return "the sample has no label"
        return f"label {sample.label}, but the network has classes 0 to {self.available - 1}"


def parse_targets(text: str, classes: int, link: str = SOFTMAX, given: I4 | None = None) -> Targets:
    """Parse ``--target`` for a network with that many classes and that link.

    `given` are the (listed,K) classes of each image that a run or labels give.

    Raises
    ------
    ConfigError
        It is not understood, or names a class the network does not have.
    """
    if text.startswith(SIMILAR):  # outputs of the network are similarities to what it names
        return Targets("class", classes, classes, tuple(range(classes)))
    if given is not None:
        if given.max(initial=NO_CLASS) >= classes:
            raise ConfigError(
                f"--target {text}: explains class {given.max()}; the network has classes 0 to "
                f"{classes - 1}"
            )
        kind = LABELS if text.partition(":")[0] == LABELS else "given"
        return Targets(kind, given.shape[1], classes, given=given)
    if text == "label":
        if link == NO_LINK:
            raise ConfigError("--target label: the network claims no class (--link none)")
        return Targets("label", 1, classes)
    try:
        if text.startswith("top"):
            targets = Targets("top", int(text[3:]), classes)
        elif text.startswith("class:"):
            ids = tuple(int(part) for part in text[6:].split(","))
            targets = Targets("class", len(ids), classes, ids)
        elif text.startswith("above:"):
            score, _, most = text[6:].partition(",")
            count = int(most) if most else min(MOST_ABOVE, classes)
            targets = Targets("above", count, classes, above=float(score))
        else:
            raise ValueError(text)
    except ValueError:
        raise ConfigError(f"{_USAGE}, not {text!r}") from None
    if not 1 <= targets.count <= classes:
        raise ConfigError(f"--target {text}: explains 1 to {classes} classes, as the network has")
    if not math.isfinite(targets.above) or (link != NO_LINK and not 0 <= targets.above < 1):
        raise ConfigError(f"--target {text}: scores are from 0 to 1 here, such as above:0.5")
    wrong = [c for c in targets.classes if not 0 <= c < classes]
    if wrong or len(set(targets.classes)) < len(targets.classes):
        what = f"no class {wrong[0]}" if wrong else "a class is named twice"
        raise ConfigError(f"--target {text}: {what}; the network has classes 0 to {classes - 1}")
    return targets


def top_classes(logits: F4, count: int) -> I4:
    """(N,classes) -> (N,count) class numbers by falling logit; the lower number wins a tie.

    NO_CLASS in a row whose highest logit is not a finite number: one that is NaN may hide a
    higher one, and infinities do not tell which is.
    """
    chosen = _one_by_one(logits, count) if count <= FEW else None
    if chosen is None:
        chosen = _sorted(logits, count)
    chosen[~np.isfinite(logits.max(axis=1))] = NO_CLASS
    return chosen


def _one_by_one(logits: F4, count: int) -> I4 | None:
    """The highest of what is left, `count` times; None if that leaves nothing in some row.

    A tenth of the time of sorting, for 5 of 1,000 classes.
    """
    left, rows = logits.copy(), np.arange(len(logits))
    chosen = np.empty((len(logits), count), np.int32)
    for column in range(count):
        chosen[:, column] = highest = left.argmax(axis=1)
        if np.isneginf(left[rows, highest]).any():
            return None
        left[rows, highest] = -np.inf
    return chosen


def _sorted(logits: F4, count: int) -> I4:
    falling = -logits
    limits = np.partition(falling, count - 1, axis=1)[:, count - 1]  # NaN counts as the largest
    rows, classes = np.nonzero(~(falling > limits[:, None]))  # more than `count` if there are ties
    order = np.lexsort((falling[rows, classes], rows))
    first = np.searchsorted(rows, np.arange(len(logits)))
    chosen: I4 = classes[order][first[:, None] + np.arange(count)].astype(np.int32)
    return chosen
