"""The two ways in which the terms of a map, one for each channel, become the map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from array_api_compat import array_namespace

from shardcam.engine.methods.arrays import (
    contiguous,
    like,
    positive,
    product_sum,
    stacked,
    weighted_sum,
)
from shardcam.engine.methods.components import first_component
from shardcam.engine.types import F4


class Combine(Protocol):
    """From the terms of a map, one for each channel, to the map."""

    def channels(self, activation: F4, weights: F4) -> F4:
        """Of `weight * activation`: (N,C,h,w), (N,K,C) -> (N,K,h,w)."""
        ...

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """Of `factor * activation`, a factor for each target: (N,C,h,w), K times the same
        or (N,C,1,1) -> (N,K,h,w).

        relu: `none`; `factor`, which drops negative factors; `product`, negative terms.
        """
        ...


class Sum:
    """Add the terms: what the methods' papers do."""

    def channels(self, activation: F4, weights: F4) -> F4:
        """See `Combine`."""
        return weighted_sum(activation, like(weights, activation))

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See `Combine`."""
        return stacked(self._elements(activation, factor, relu) for factor in factors)

    def _elements(self, activation: F4, factor: F4, relu: str) -> F4:
        if factor.shape[2:] == (1, 1) and relu != "product":
            weights = factor[:, None, :, 0, 0]
            kept = positive(weights) if relu == "factor" else weights
            return weighted_sum(activation, contiguous(kept))[:, 0]
        everywhere = array_namespace(factor).broadcast_to(factor, activation.shape)
        return product_sum(activation, contiguous(everywhere), relu)


class FirstComponent:
    """Take the first principal component of the terms: pytorch-grad-cam's `eigen_smooth`."""

    def channels(self, activation: F4, weights: F4) -> F4:
        """See `Combine`."""
        weights = like(weights, activation)
        factors = (weights[:, k, :, None, None] for k in range(weights.shape[1]))
        return self.elements(activation, factors)

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See `Combine`."""
        return stacked(first_component(_terms(activation, factor, relu)) for factor in factors)


def _terms(activation: F4, factor: F4, relu: str) -> F4:
    terms: F4 = activation * (positive(factor) if relu == "factor" else factor)
    return positive(terms) if relu == "product" else terms
