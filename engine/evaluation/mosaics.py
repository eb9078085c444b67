"""Which images a mosaic is of: some that a network is sure of, each of another class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.paired_images import KeyRows
from shardcam.engine.types import F4, I8, NO_CLASS, NO_LABEL, counted


@dataclass(frozen=True)
class SureImages:
    """Images that networks classify with certainty, and right where a label says so."""

    rows: I8  # of the first run
    classes: I8
    scores: F4


def sure_images(runs: Sequence[Run], min_score: float) -> SureImages:
    """The images of the first run that all of them give one class, each with that score at least.

    Where an image has a label, that is the class.
    """
    first, *others = runs
    keys = [KeyRows(run) for run in others]
    rows, classes, scores, start = [], [], [], 0
    for part in first.shards():
        top, score, label = part["top_class"][:, 0], part["top_score"][:, 0], part["label"][:]
        sure = (top != NO_CLASS) & (score >= min_score)
        sure &= (label == NO_LABEL) | (label == top)
        here = np.flatnonzero(sure)
        for other, known in zip(others, keys, strict=True):
            there = known.find(part["key"][here])
            here, there = here[there >= 0], there[there >= 0]
            same = (other["top_class"][there, 0] == top[here]) & (
                other["top_score"][there, 0] >= min_score
            )
            here = here[same]
        rows.append(start + here.astype(np.int64))
        classes.append(top[here].astype(np.int64))
        scores.append(score[here])
        start += len(part)
    none = np.empty(0, np.int64)
    return SureImages(
        np.concatenate([none, *rows]),
        np.concatenate([none, *classes]),
        np.concatenate([np.empty(0, np.float32), *scores]),
    )


def drawn_cells(images: SureImages, cells: int, count: int, seed: int) -> Iterator[I8]:
    """Draw mosaics: of each, (cells,) places in `images`, all of different classes.

    No image is drawn twice, so that there may be fewer than `count`.

    Raises
    ------
    ConfigError
        There are too few classes for one.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images.classes))
    left: dict[int, list[int]] = {}
    for place in order.tolist():
        left.setdefault(int(images.classes[place]), []).append(place)
    if len(left) < cells:
        raise ConfigError(
            f"a mosaic needs images of {cells} classes that the network is sure of; there are "
            f"{counted(len(images.rows), 'such image')} of {counted(len(left), 'class')}: a lower "
            "--min-score, a smaller --grid or a larger run may do"
        )
    for _ in range(count):
        if len(left) < cells:
            return
        chosen = rng.choice(np.array(sorted(left)), cells, replace=False)
        yield np.array([left[cls].pop() for cls in chosen.tolist()])
        left = {cls: places for cls, places in left.items() if places}
