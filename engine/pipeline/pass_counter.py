"""How far a method is within a batch: some run the network a thousand times for one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from shardcam.engine.protocols import HeadView, LayerView, Method
from shardcam.engine.types import F4, I4


def watched(method: Method, on_pass: Callable[[], None]) -> Method:
    """The same method; `on_pass` is called whenever it is about to run a part of the network."""

    def call(layer: LayerView, targets: I4) -> F4:
        on_pass()
        return method(_watched_layer(layer, on_pass), targets)

    return call


class _Watched:
    """A layer; what it does not have itself is the layer's own."""

    def __init__(self, layer: LayerView, on_pass: Callable[[], None]) -> None:
        self._layer, self._on_pass = layer, on_pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def gradient(self, direction: F4) -> F4:
        self._on_pass()
        return self._layer.gradient(direction)

    def bias_terms(self, direction: F4) -> Iterator[tuple[slice, F4]]:
        for part in self._layer.bias_terms(direction):
            self._on_pass()
            yield part

    def at(self, activation: F4, image: I4, differentiable: bool = False) -> HeadView:
        self._on_pass()
        return self._layer.at(activation, image, differentiable)

    def of(self, images: F4) -> LayerView:
        self._on_pass()
        return _watched_layer(self._layer.of(images), self._on_pass)


def _watched_layer(layer: LayerView, on_pass: Callable[[], None]) -> LayerView:
    return cast(LayerView, _Watched(layer, on_pass))
