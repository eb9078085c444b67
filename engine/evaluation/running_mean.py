"""Mean and spread of numbers that are never all held at once."""

from __future__ import annotations

import math

import numpy as np

from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.run.intervals import normal, wilson
from shardcam.engine.types import F8


class RunningMean:
    """Mean and spread of numbers that come in blocks, or of curves, point by point."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: F8 = np.zeros(())
        self._squares: F8 = np.zeros(())  # of distances from the mean

    def add(self, values: F8) -> None:
        """(m,) or (m,points), those that are not NaN."""
        values = values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]
        if not len(values):
            return
        mean, total = values.mean(axis=0), self.count + len(values)
        apart = mean - self.mean
        squares = ((values - mean) ** 2).sum(axis=0) + apart**2 * self.count * len(values) / total
        self.mean = self.mean + apart * len(values) / total
        self.count, self._squares = total, self._squares + squares

    def interval(self) -> tuple[F8, F8]:
        """Normal, 95 %; NaN for a single value."""
        unknown = self._squares * np.nan
        variance = self._squares / (self.count - 1) if self.count > 1 else unknown
        return normal(self.mean, variance, self.count)

    def figure(self, least: float = -math.inf, most: float = math.inf) -> Figure:
        """With its interval, of numbers, which may be bounded."""
        if not self.count:
            return Figure(math.nan, math.nan, math.nan, 0)
        low, high = map(float, self.interval())
        return Figure(float(self.mean), max(low, least), min(high, most), self.count)

    def share(self) -> Figure:
        """Of zeros and ones, with Wilson's interval."""
        if not self.count:
            return self.figure()
        share = float(self.mean)
        return Figure(share, *wilson(share * self.count, self.count), self.count)
