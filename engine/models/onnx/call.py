"""One ONNX node as its translation sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.onnx_graph import (
    Array,
    Builder,
    Known,
    Quantised,
    Tensor,
    Value,
    View,
    Weight,
)

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array


@dataclass
class Call:
    """An operator with its inputs and attributes.

    It remembers which attributes were read: one that was not read was not understood, and the
    node is refused.
    """

    op: str
    name: str
    opset: int
    inputs: tuple[Value | None, ...]
    outputs: int
    attributes: dict[str, Attribute]
    build: Builder
    fixed_batch: int | None = None  # the batch size that the file was written for
    read: set[str] = field(default_factory=set)
    domain: str = ""

    def tensor(self, index: int = 0) -> Tensor:
        """An input that depends on the images."""
        value = self.value(index)
        if isinstance(value, Known):
            raise ModelError(f"input {index} is a constant, which is not supported here")
        if isinstance(value, View):
            raise ModelError("the batch is not the first axis of what it reads")
        if isinstance(value, Quantised):
            raise ModelError(f"input {index} is quantised, which is not supported here")
        return value

    def rows(self, known: Known) -> Array:
        """A constant that has the same row for each image, with one of them."""
        value, batch = known.values[0], self.fixed_batch
        if known.varies or batch is None or value.shape[:1] != (batch,):
            return known.row
        return value[:1] if all(np.array_equal(row, value[0]) for row in value) else value

    def spread(self, row: Array, like: Tensor) -> Tensor:
        """The same (1,...) for every image, of which there are as many as in `like`."""
        first = (None, *(0 for _ in like.sizes))
        one = self.emit("slice", [like], "one", begin=first, end=(None, *(1 for _ in like.sizes)))
        if like.rank != row.ndim:
            one = self.emit("Reshape", [one], "ones", shape=(0, *(1 for _ in row.shape[1:])))
        zero = self.emit("_mul_scalar", [one], "zero", scalar=0.0)
        return self.emit("broadcast_add", [zero, self.parameter("row", row)], "rows")

    def image(self) -> Tensor:
        """The first input, which must be (N,C,H,W)."""
        x = self.tensor()
        if x.rank != 4:
            raise ModelError(f"only images are supported, not {x.rank - 2} spatial axes")
        return x

    def value(self, index: int) -> Value:
        """An input that must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ModelError(f"input {index} is missing")
        return value

    def plain(self, index: int) -> Known | Tensor:
        """An input of real numbers, which may depend on the images."""
        value = self.value(index)
        return value if isinstance(value, Known) else self.tensor(index)

    def known(self, index: int) -> Known:
        """An input that does not depend on the images."""
        value = self.value(index)
        if not isinstance(value, Known):
            raise ModelError(f"input {index} depends on the images, which is not supported")
        return value

    def array(self, index: int) -> Array:
        """An input that depends on nothing."""
        return self.known(index).constant

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def optional_array(self, index: int) -> Array | None:
        """An optional input that depends on nothing."""
        return self.array(index) if self.has(index) else None

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._attribute(name, default)
        if not isinstance(value, int):
            raise ModelError(f"attribute {name} is {value!r}, not an integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._attribute(name, default)
        if not isinstance(value, int | float):
            raise ModelError(f"attribute {name} is {value!r}, not a number")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._attribute(name, default)
        if not isinstance(value, str):
            raise ModelError(f"attribute {name} is {value!r}, not a string")
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        value = self._attribute(name, None if default is None else tuple(default))
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise ModelError(f"attribute {name} is {value!r}, not a list of integers")
        return tuple(int(v) for v in value)

    def must_be(self, name: str, allowed: Attribute) -> None:
        """Refuse every value of an attribute but one, which is its default too."""
        value = self._attribute(name, allowed)
        if value != allowed:
            raise ModelError(f"attribute {name}={value!r} is not supported")

    def ignore(self, *names: str) -> None:
        """These attributes change nothing at inference."""
        self.read.update(names)

    def emit(
        self, op: str, inputs: Sequence[Tensor | Weight], part: str = "", **attrs: object
    ) -> Tensor:
        """Add an MXNet node of this node's name, or of a `part` of it."""
        name = f"{self.name}/{part}" if part else self.name
        return self.build.emit(op, name, inputs, attrs)

    def parameter(self, part: str, value: Array) -> Weight:
        """Add a parameter that the file does not hold in this form."""
        return self.build.parameter(f"{self.name}/{part}", value)

    def _attribute(self, name: str, default: Attribute | None) -> Attribute:
        self.read.add(name)
        value = self.attributes.get(name, default)
        if value is None:
            raise ModelError(f"attribute {name} is missing")
        return value
