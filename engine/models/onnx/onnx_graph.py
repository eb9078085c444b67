"""The MXNet graph that an ONNX file becomes, built node by node.

What an ONNX node reads is of two kinds.  A `Tensor` depends on the images;
its first axis is the batch (or a multiple of it) and no other axis depends on the
batch, which is what keeps the images of a batch apart.  A `Known` array does
not depend on the images: a weight, or what the file computes from shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isinf, prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import VARIABLE, Entry, Node
from shardcam.engine.models.node_shapes import node_shapes
from shardcam.engine.models.onnx.room import Room
from shardcam.engine.types import F4

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

# Whatever depends on shapes is worked out for two batch sizes: what agrees is a
# constant, what does not depends on the batch.
BATCHES = (7, 11)

# One GiB of float32 for one image: far beyond any real layer, near enough to stop a hostile file.
MAX_ELEMENTS = 2**28

MAX_GRAPH = 50_000  # nodes and edges, together: ten times what large networks have

# Numbers read and made in constants, all in all: some for any file, more for one with weights.
ALLOWANCE, FOR_EACH_WEIGHT = 2**29, 128


@dataclass(frozen=True)
class Known:
    """An array that does not depend on the images, for each size of `BATCHES`."""

    values: tuple[Array, Array]
    name: str = ""  # of the initializer

    @classmethod
    def of(cls, value: Array, name: str = "") -> Known:
        """The same array at every batch size."""
        return cls((value, value), name)

    @property
    def constant(self) -> Array:
        """The array itself.

        Raises
        ------
        ModelError
            It depends on the batch size.
        """
        if self.varies:
            raise ModelError("a number that must be constant depends on the batch size")
        return self.values[0]

    @property
    def row(self) -> Array:
        """The same rows for every image, of which one is left: ``token.expand(N, -1, -1)``.

        Raises
        ------
        ModelError
            It depends on the batch size in another way.
        """
        first, second = self.values
        rows = (*first, *second) if [len(v) for v in self.values if v.ndim] == [*BATCHES] else ()
        if not rows or any(not np.array_equal(row, rows[0]) for row in rows):
            return self.constant
        return first[:1]

    @property
    def varies(self) -> bool:
        """It depends on the batch size."""
        first, second = self.values
        if first is second:
            return False
        return first.shape != second.shape or first.tobytes() != second.tobytes()


@dataclass(frozen=True)
class Tensor:
    """The output of an MXNet node, of shape ``(multiple * batch, *sizes)``."""

    entry: Entry
    multiple: int
    sizes: Shape

    def shape(self, batch: int) -> Shape:
        """The whole shape at one batch size."""
        return (self.multiple * batch, *self.sizes)

    @property
    def rank(self) -> int:
        return 1 + len(self.sizes)


@dataclass(frozen=True)
class View:
    """A tensor whose batch comes later: each axis is a row of axes of one that begins with it.

    Axes of length one may be in none of them. See `engine.models.onnx.moved`.
    """

    tensor: Tensor  # of one row for each image
    axes: tuple[tuple[int, ...], ...]

    def length(self, axis: int) -> int:
        """Of an axis of the tensor, which is not the batch."""
        return self.tensor.sizes[axis - 1]

    def shape(self, batch: int) -> Shape:
        """The whole shape at one batch size."""
        return tuple(prod(self.length(i) if i else batch for i in axis) for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.axes)


@dataclass(frozen=True)
class Weight:
    """A parameter's variable."""

    entry: Entry
    sizes: Shape

    def shape(self, batch: int) -> Shape:
        """The same at every batch size."""
        return self.sizes


@dataclass(frozen=True)
class Quantised:
    """Whole numbers q of a quantised file, kept as what they stand for: (q - zero) * scale."""

    tensor: Tensor
    scale: Array
    zero: Array


Value = Known | Tensor | View | Quantised
_Made = TypeVar("_Made", Tensor, Weight)


@dataclass
class Builder:
    """Collects nodes and parameters; every shape is inferred as soon as a node is added."""

    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor | Weight] = field(default_factory=list)  # first output of each node
    parameters: dict[str, F4] = field(default_factory=dict)
    allowance: int = ALLOWANCE  # of work on constants
    room: Room = field(default_factory=Room)
    quantised: bool = False  # the file is, in part at least
    rounds: bool = False  # activations, where it is
    copies: dict[int, tuple[Array, F4]] = field(default_factory=dict)  # what weights became, by id
    _size: int = 0  # of the graph, as `MAX_GRAPH` counts
    _names: set[str] = field(default_factory=set)
    _shared: dict[tuple[str, str], Weight] = field(default_factory=dict)

    def input(self, name: str, sizes: Shape) -> Tensor:
        """Add the variable that takes the images."""
        node = Node(VARIABLE, self._unique(name))
        return self._append(node, Tensor((len(self.nodes), 0), 1, sizes))

    def emit(
        self, op: str, name: str, inputs: Sequence[Tensor | Weight], attrs: dict[str, object]
    ) -> Tensor:
        """Add one operator.

        Raises
        ------
        ModelError
            Its inputs do not fit it, or it would mix the images of a batch.
        """
        self._size += 1 + len(inputs)
        if self._size > MAX_GRAPH:
            raise ModelError(f"the network would have more than {MAX_GRAPH} nodes and edges")
        texts = {key: str(value) for key, value in attrs.items()}
        for key, value in attrs.items():
            infinite = isinstance(value, float) and isinf(value)
            if infinite or texts[key] == "nan":  # of which MXNet's ReLU would make 0
                raise ModelError(f"its {key} is {value}")
        node = Node(op, self._unique(name), texts, tuple(i.entry for i in inputs))
        first, second = (_infer(node, [i.shape(batch) for i in inputs]) for batch in BATCHES)
        multiple, left = divmod(first[0] if first else 1, BATCHES[0])
        if left or second != (multiple * BATCHES[1], *first[1:]):
            raise ModelError("it would mix the images of a batch")
        if prod(first) // BATCHES[0] > MAX_ELEMENTS:
            raise ModelError(f"a tensor of {first[1:]} for each image is too large")
        return self._append(node, Tensor((len(self.nodes), 0), multiple, first[1:]))

    def pay(self, cost: int) -> None:
        """Take `cost` from the numbers that this file may have computed or stored."""
        self.allowance -= cost
        if self.allowance < 0:
            raise ModelError(
                "computing its constants asks for too much; onnxruntime can do it once: "
                "SessionOptions.optimized_model_filepath with ORT_ENABLE_BASIC"
            )

    def weight(self, known: Known, role: str = "") -> Weight:
        """The variable of an initializer; the same one for each use in the same role.

        MXNet keeps statistics apart from weights, so one array in both roles needs two.
        """
        if (known.name, role) not in self._shared or not known.name:
            weight = self.parameter(known.name or "constant", known.constant)
            self._shared[known.name, role] = weight
            if known.name:  # so that networks of other sizes take the same array
                made = self.parameters[self.nodes[weight.entry[0]].name]
                self.copies[id(known.constant)] = known.constant, made
        return self._shared[known.name, role]

    def parameter(self, name: str, value: Array) -> Weight:
        if not value.size:
            raise ModelError(f"its weight {name!r} is empty")
        self.pay(value.size)
        self.room.require(4 * value.size)
        node = Node(VARIABLE, self._unique(name))
        source, made = self.copies.get(id(value), (None, None))
        if made is None or source is not value:
            with np.errstate(over="ignore"):
                made = np.array(value, np.float32, order="C")
        self.parameters[node.name] = made
        self.room.take([made])
        return self._append(node, Weight((len(self.nodes), 0), value.shape))

    def source(self, tensor: Tensor, op: str) -> tuple[Node, Tensor] | None:
        """The node that made `tensor` and its first input, if it is an `op`."""
        node = self.nodes[tensor.entry[0]]
        if node.op != op:
            return None
        before = self.tensors[node.inputs[0][0]]
        return (node, before) if isinstance(before, Tensor) else None

    def _append(self, node: Node, tensor: _Made) -> _Made:
        self.nodes.append(node)
        self.tensors.append(tensor)
        return tensor

    def _unique(self, name: str) -> str:
        """A free name in printable ASCII: MXNet's JSON reader accepts no other letters.

        MXNet calls the output of ``x`` ``x_output``, so that name is taken too.
        """
        plain = "".join(c if " " < c <= "~" and c not in '"\\' else "_" for c in name) or "node"
        number, free = 0, plain
        while {free, f"{free}_output"} & self._names:
            number += 1
            free = f"{plain}_{number}"
        self._names |= {free, f"{free}_output"}
        return free


def _infer(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Shape of a node's first output, by MXNet."""
    shape = node_shapes(node, shapes)[1][0]
    if not shape:
        raise ModelError(f"from shapes {list(shapes)} it makes an empty tensor")
    return shape
