"""What a CAM method is, and the two ways in which its terms become one map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shardcam.engine.methods.components import first_component
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4
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
        """See :class:`Combine`."""
        return weighted_sum(activation, weights)

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See :class:`Combine`."""
        maps = [self._elements(activation, factor, relu) for factor in factors]
        return np.ascontiguousarray(np.stack(maps, axis=1))

    def _elements(self, activation: F4, factor: F4, relu: str) -> F4:
        if factor.shape[2:] == (1, 1) and relu != "product":
            weights = factor[:, None, :, 0, 0]
            kept = np.maximum(weights, 0) if relu == "factor" else weights
            return weighted_sum(activation, np.ascontiguousarray(kept))[:, 0]
        whole = np.ascontiguousarray(np.broadcast_to(factor, activation.shape))
        return product_sum(activation, whole, relu)


class FirstComponent:
    """Take the first principal component of the terms: pytorch-grad-cam's `eigen_smooth`."""

    def channels(self, activation: F4, weights: F4) -> F4:
        """See :class:`Combine`."""
        factors = (weights[:, k, :, None, None] for k in range(weights.shape[1]))
        return self.elements(activation, factors)

    def elements(self, activation: F4, factors: Iterable[F4], relu: str = "none") -> F4:
        """See :class:`Combine`."""
        maps = [first_component(_terms(activation, factor, relu)) for factor in factors]
        return np.ascontiguousarray(np.stack(maps, axis=1))


def _terms(activation: F4, factor: F4, relu: str) -> F4:
    terms: F4 = activation * (np.maximum(factor, 0) if relu == "factor" else factor)
    return np.maximum(terms, 0) if relu == "product" else terms


class Maps(Protocol):
    """The formula of a method."""

    def __call__(self, layer: LayerView, targets: I4, combine: Combine) -> F4:
        """(N,K) classes -> (N,K,h,w) raw maps, signed, before ReLU."""
        ...


FORWARD, GRADIENT = "forward only", "head backward"


@dataclass(frozen=True)
class CamMethod:
    """A class activation map method: its formula, where it comes from, what it costs."""

    maps: Maps
    paper: str
    needs: str  # of the network, with C channels
    # Of a forward pass, that pass included: for ResNet-50, whose head is in closed form, and
    # for VGG16, one class each, as benchmarks/test_methods.py finds them (scorecam by count).
    # None: not possible.
    cost: tuple[float, float | None]
    many: bool = False  # it makes many passes
    terms: bool = True  # the map is a sum of terms, so that `--smooth eigen` applies
    per_class: bool = True  # the map depends on the class
    whole: bool = False  # it explains the network's input, not a layer
    fuse: str = "mean"  # how the maps of several layers become one heatmap

    def __call__(self, layer: LayerView, targets: I4, combine: Combine | None = None) -> F4:
        """See :class:`engine.protocols.Method`."""
        return self.maps(layer, targets, combine or Sum())
