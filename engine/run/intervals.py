"""How certain the figures of a sample are."""

from __future__ import annotations

from typing import TypeVar

from shardcam.engine.types import F8

Number = TypeVar("Number", float, F8)
Z95 = 1.96  # of a normal distribution, 95 % lie within so many standard deviations


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), which stays within 0 and 1."""
    share, spread = hits / n, Z95 * Z95 / n
    centre = share + spread / 2
    half = Z95 * (share * (1 - share) / n + spread / (4 * n)) ** 0.5
    return (centre - half) / (1 + spread), (centre + half) / (1 + spread)


def normal(mean: Number, variance: Number, n: int) -> tuple[Number, Number]:
    """95 % interval of the mean of n values, or of n curves point by point."""
    half = Z95 * (variance / n) ** 0.5
    return mean - half, mean + half


def of_mean(values: F8) -> tuple[float, float]:
    """95 % normal interval of a mean; NaN for a single value."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    return normal(float(values.mean()), float(values.var(ddof=1)), n)


def of_mean_share(values: F8) -> tuple[float, float]:
    """95 % normal interval of a mean of shares, within 0 and 1; NaN for a single value."""
    low, high = of_mean(values)
    return max(low, 0.0), min(high, 1.0)


def of_mean_of_proportions(hits: F8, n: F8) -> tuple[float, float]:
    """95 % normal interval of the mean of independent proportions.

    Two hits and two misses are added to each for its variance (Agresti and Coull 1998), so
    that a class whose few images all hit is not taken to be certain.
    """
    mean = float((hits / n).mean())
    share = (hits + 2) / (n + 4)
    half = Z95 * float((share * (1 - share) / (n + 4)).sum()) ** 0.5 / len(n)
    return max(mean - half, 0.0), min(mean + half, 1.0)
