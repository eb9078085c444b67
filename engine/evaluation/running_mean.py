"""Mean and spread of numbers that are never all held at once."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.intervals import Z95
from shardcam.engine.evaluation.metric import Figure

F8 = npt.NDArray[np.float64]


class RunningMean:
    """Mean and spread of numbers that come in blocks."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares of distances from the mean

    def add(self, values: F8) -> None:
        """Those that are not NaN."""
        values = values[~np.isnan(values)]
        if not len(values):
            return
        mean, total = float(values.mean()), self.count + len(values)
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += apart**2 * self.count * len(values) / total
        self.mean += apart * len(values) / total
        self.count = total

    def figure(self) -> Figure:
        """With a normal 95 % interval."""
        nan = float("nan")
        if not self.count:
            return Figure(nan, nan, nan, 0)
        if self.count == 1:
            return Figure(self.mean, nan, nan, 1)
        spread = Z95 * math.sqrt(self.squares / (self.count - 1) / self.count)
        return Figure(self.mean, self.mean - spread, self.mean + spread, self.count)
