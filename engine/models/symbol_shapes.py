"""How the operators of a symbol file fit together, before MXNet runs them.

Each operator is looked at by itself, in the order of the graph, with the shapes that it reads:
what MXNet divides by, indexes with or allocates is checked before MXNet infers the next shape.
The shapes are inferred for two batch sizes. The first axis of what depends on the images is the
batch, or a multiple of it, and no other axis depends on the batch: this keeps the images of a batch
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import VARIABLE, Entry, Graph, Node
from shardcam.engine.models.node_shapes import Shape, node_shapes
from shardcam.engine.models.symbol_operators import output_count
from shardcam.engine.models.symbol_rules import MIXES, Use, check_use

BATCHES = (5, 7)
OTHER_FITS = "; another --image-size may fit"  # ends what is said where shapes do not fit
MAX_ELEMENTS = 2**28  # for one image; 7 of them fit MXNet's index of 31 bits


@dataclass(frozen=True)
class _Value:
    """An output or a variable: its shape at each batch size, () while it is not known."""

    shapes: tuple[Shape, Shape]
    images: bool  # it depends on them


def require_runnable(
    graph: Graph, images: str, sizes: Shape, known: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Check every operator of a graph; return the shapes of all variables but the input.

    Parameters
    ----------
    graph
        As `parse` read it, ending at the logits.
    images
        Name of the variable that takes them.
    sizes
        (C,H,W) of one image.
    known
        Shapes of parameters; those of others follow from the operator that reads them first.

    Raises
    ------
    ModelError
        It names the operator.
    """
    walk = _Walk()
    for number, node in enumerate(graph.nodes):
        if node.name == images and node.op == VARIABLE:
            _require_small(prod(sizes), sizes)
            first, second = ((batch, *sizes) for batch in BATCHES)
            walk.values[number, 0] = _Value((first, second), images=True)
        elif node.op == VARIABLE:
            shape = known.get(node.name, ())
            _require_small(prod(shape), shape)
            walk.values[number, 0] = _Value((shape, shape), images=False)
        else:
            try:
                walk.add(number, node, [graph.nodes[source].name for source, _ in node.inputs])
            except ModelError as error:
                raise ModelError(f"{node.op} {node.name!r}: {error}") from None
    return {
        node.name: walk.values[number, 0].shapes[0]
        for number, node in enumerate(graph.nodes)
        if node.op == VARIABLE and node.name != images
    }


class _Walk:
    """Values so far, and what MXNet said of operators: networks repeat themselves."""

    def __init__(self) -> None:
        self.values: dict[Entry, _Value] = {}
        self._seen: dict[object, tuple[list[Shape], list[Shape]]] = {}

    def add(self, number: int, node: Node, names: Sequence[str]) -> None:
        """Check an operator, and infer its outputs and what it reads."""
        read = [self.values[entry] for entry in node.inputs]
        images = [value.images for value in read]
        check_use(Use(node, [value.shapes[0] for value in read], images))
        first, second = (
            self._inferred(node, [value.shapes[i] for value in read]) for i in range(len(BATCHES))
        )
        for i, entry in enumerate(node.inputs):
            self.values[entry] = _read(names[i], read[i], (first[0][i], second[0][i]))
        for i, pair in enumerate(zip(first[1], second[1], strict=True)):
            self.values[number, i] = _made(pair, any(images))

    def _inferred(self, node: Node, shapes: Sequence[Shape]) -> tuple[list[Shape], list[Shape]]:
        key = node.op, tuple(sorted(node.attrs.items())), tuple(shapes)
        if key not in self._seen:
            try:
                self._seen[key] = node_shapes(node, shapes, output_count(node.op, node.attrs))
            except ModelError as error:
                raise ModelError(f"{error}{OTHER_FITS}") from error
        return self._seen[key]


def _read(name: str, value: _Value, needed: tuple[Shape, Shape]) -> _Value:
    """An input as its reader needs it; that says what the shape of a weight is."""
    if value.shapes[0]:
        if value.shapes != needed:
            raise ModelError(f"its weight {name!r} is {value.shapes[0]}, not {needed[0]}")
        return value
    if not needed[0] or needed[0] != needed[1]:
        raise ModelError(f"the shape of {name!r} does not follow; give --params FILE")
    _require_small(prod(needed[0]), needed[0])
    return _Value(needed, images=False)


def _made(shapes: tuple[Shape, Shape], images: bool) -> _Value:
    first, second = shapes
    if not first or not second:
        raise ModelError("it makes an empty tensor, or one whose shape does not follow")
    if not images:
        _require_small(prod(first), first)
        return _Value(shapes, images)
    multiple, left = divmod(first[0], BATCHES[0])
    if left or second != (multiple * BATCHES[1], *first[1:]):
        raise ModelError(MIXES)
    _require_small(prod(first) // BATCHES[0], first[1:])
    return _Value(shapes, images)


def _require_small(numbers: int, sizes: Shape) -> None:
    if numbers > MAX_ELEMENTS:
        raise ModelError(f"a tensor of {sizes} is too large; a smaller --image-size may fit")
