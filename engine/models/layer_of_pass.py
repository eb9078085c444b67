"""What a layer of a pass asks of its head, whichever library that is computed by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from shardcam.engine.errors import ConfigError
from shardcam.engine.types import F4

Values = TypeVar("Values")  # arrays, or tensors of PyTorch
Given = TypeVar("Given")  # what is taken in their place
Head = TypeVar("Head")


class LayerOfPass(Generic[Values, Given, Head]):
    """One layer of one pass; see `engine.protocols.LayerView`."""

    def __init__(self, run: Any, name: str) -> None:
        self._pass, self._name = run, name

    @property
    def _head(self) -> Any:
        return self._pass.head(self._name)

    @property
    def activation(self) -> Values:
        values: Values = self._head.activation
        return values

    @property
    def logits(self) -> F4:
        logits: F4 = self._head.logits
        return logits

    @property
    def classes(self) -> int:
        return int(self._pass.network.classes)

    @property
    def images(self) -> F4:
        images: F4 = self._pass.images
        return images

    @property
    def closed_form(self) -> bool:
        return self._head.program.dense is not None

    @property
    def piecewise_linear(self) -> bool:
        return bool(self._head.program.piecewise_linear)

    @property
    def head_rows(self) -> int:
        return int(self._head.rows)

    @property
    def network_rows(self) -> int:
        return int(self._pass.network.batch_size)

    def gradient(self, direction: Given) -> Values:
        self._pass.network.on_pass()
        values: Values = self._head.gradient(direction)
        return values

    def bias_terms(self, direction: Given) -> Iterator[tuple[slice, Values]]:
        network = self._pass.network
        for term in network.biases.terms(self._pass.images_there, direction):
            network.on_pass()
            yield term

    @property
    def attention(self) -> Iterator[Values]:
        return map(self._pass.activation, self._pass.network.attention)

    def _dense(self) -> Any:
        """The weights of the dense layer that follows, (classes,C)."""
        dense = self._head.program.dense
        if dense is None:
            raise ConfigError(f"{self._name}: no global average pooling and dense layer follow it")
        return dense

    def at(self, activation: Given, image: Any, differentiable: bool = False) -> Head:
        self._pass.network.on_pass()
        head: Head = self._head.at(activation, image, differentiable)
        return head
