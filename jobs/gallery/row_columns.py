"""What the rows of a run are counted, filtered, ordered and sampled by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.analysis.row_filter import judged
from shardcam.engine.types import F4, I4, U1

Positions = npt.NDArray[np.intp]

ORDERS = ("source", "surest", "unsure")
MEASURE_ORDERS = ("lowest", "highest")  # of values that are given
_BANDS = 5  # of the score, for samples
_SEED = 0


@dataclass(frozen=True)
class Columns:
    """Four columns of N rows: 13 bytes a row, 13 MB for a million."""

    label: I4  # (N,) NO_LABEL where there is none
    predicted: I4  # (N,) NO_CLASS where there is none
    score: F4  # (N,) of the predicted class
    flags: U1  # (N,)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) whether there is a label that the prediction is right or wrong by."""
        return judged(self.label, self.predicted, self.flags)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether prediction and label agree."""
        agrees: npt.NDArray[np.bool_] = self.labelled & (self.label == self.predicted)
        return agrees

    def take(self, rows: Positions) -> Columns:
        """Some rows of them."""
        return Columns(self.label[rows], self.predicted[rows], self.score[rows], self.flags[rows])


def read_columns(run: Run) -> Columns:
    """Read the columns of all rows, a shard at a time."""
    count = len(run)
    columns = Columns(
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.float32),
        np.empty(count, np.uint8),
    )
    start = 0
    for shard in run.shards():
        rows = slice(start, start + len(shard))
        columns.label[rows] = shard["label"][:]
        columns.predicted[rows] = shard["top_class"][:, 0]
        columns.score[rows] = shard["top_score"][:, 0]
        columns.flags[rows] = shard["flags"][:]
        start = rows.stop
    return columns


def in_order(
    columns: Columns, keep: npt.NDArray[np.bool_], order: str, values: F4 | None = None
) -> Positions:
    """The rows to keep, in one of ORDERS, or of MEASURE_ORDERS by (N,) values."""
    rows: Positions = np.flatnonzero(keep)
    if order in MEASURE_ORDERS:
        if values is None:
            raise ValueError(f"order: {order} of which metric?")
        rows = rows[
            np.argsort(-values[rows] if order == "highest" else values[rows], kind="stable")
        ]
    elif order != "source":
        score = np.nan_to_num(columns.score[rows], nan=0.0)
        rows = rows[np.argsort(-score if order == "surest" else score, kind="stable")]
    return rows


def spread(columns: Columns, count: int) -> Positions:
    """Choose up to `count` rows, ascending, the same ones each time.

    Rows of a kind are those with the same correctness, the same fifth of the score and
    with, or without, a flag. From each kind in turn a row is drawn, so that rare kinds are
    seen as well as frequent ones.
    """
    score = np.nan_to_num(columns.score, nan=0.0)
    kind = np.clip((score * _BANDS).astype(np.int8), 0, _BANDS - 1)
    kind += _BANDS * (columns.labelled.astype(np.int8) + columns.correct)
    kind += 3 * _BANDS * (columns.flags != 0)
    drawn = np.random.default_rng(_SEED).permutation(len(columns))
    drawn = drawn[np.argsort(kind[drawn], kind="stable")]
    _, starts, sizes = np.unique(kind[drawn], return_index=True, return_counts=True)
    turn = np.arange(len(drawn)) - np.repeat(starts, sizes)
    chosen: Positions = np.sort(drawn[np.argsort(turn, kind="stable")[:count]])
    return chosen
