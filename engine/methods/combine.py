"""The two ways in which the terms of a map, one for each channel, become the map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from shardcam.engine.methods.components import first_component
from shardcam.engine.types import F4
from shardcam.kernels import product_sum, weighted_sum


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
        return weighted_sum(activation, weights)

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See `Combine`."""
        maps = [self._elements(activation, factor, relu) for factor in factors]
        return np.ascontiguousarray(np.stack(maps, axis=1))

    def _elements(self, activation: F4, factor: F4, relu: str) -> F4:
        if factor.shape[2:] == (1, 1) and relu != "product":
            weights = factor[:, None, :, 0, 0]
            kept = np.maximum(weights, 0) if relu == "factor" else weights
            return weighted_sum(activation, np.ascontiguousarray(kept))[:, 0]
        everywhere = np.ascontiguousarray(np.broadcast_to(factor, activation.shape))
        return product_sum(activation, everywhere, relu)


class FirstComponent:
    """Take the first principal component of the terms: pytorch-grad-cam's `eigen_smooth`."""

    def channels(self, activation: F4, weights: F4) -> F4:
        """See `Combine`."""
        factors = (weights[:, k, :, None, None] for k in range(weights.shape[1]))
        return self.elements(activation, factors)

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See `Combine`."""
        maps = [first_component(_terms(activation, factor, relu)) for factor in factors]
        return np.ascontiguousarray(np.stack(maps, axis=1))


def _terms(activation: F4, factor: F4, relu: str) -> F4:
    terms: F4 = activation * (np.maximum(factor, 0) if relu == "factor" else factor)
    return np.maximum(terms, 0) if relu == "product" else terms
