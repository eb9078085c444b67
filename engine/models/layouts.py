"""Layers as maps: channels-last layers and tokens laid out as (C,h,w), and back again.

A layer of a convolutional network is (N,C,h,w). Others are (N,h,w,C), tokens (N,T,C) with or
without class tokens before them, or windows of either. To explain such a layer it is put into the
graph as (N,C,h,w), under its own name, and what reads it reads that, laid back. So methods,
runtimes and writers know one layout only.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt

from shardcam.engine.models.axis_parts import (
    CHANNELS,
    COLUMNS,
    ROWS,
    SHIFTED,
    TOKENS,
    Axes,
    Axis,
    Part,
    has_grid,
    merged,
)
from shardcam.engine.models.graph import Entry, Graph, Node, prune

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where the channels, rows and columns of a layer are."""

    shape: Shape  # (C,h,w) as a map
    own: Shape  # of the tensor for one image; windows of the batch are not in it
    parts: Shape  # what its axes divide into, in order
    order: Shape  # of the parts: channels, rows, columns
    axis: int = 0  # of the tokens, counted with the batch; 0: there are none that are left out
    before: int = 0  # tokens left out
    after: int = 0

    @property
    def is_map(self) -> bool:
        """It is (C,h,w) as it is."""
        return self.own == self.shape and self.order == tuple(range(len(self.order)))

    @property
    def words(self) -> str:
        """How it lies, where it is no map as it is: ``7x7x512``, ``1+196 tokens``."""
        tokens = self.shape[1] * self.shape[2]
        if self.axis:
            return "+".join(str(n) for n in (self.before, tokens, self.after) if n) + " tokens"
        return f"{tokens} tokens" if self.own[:-1] == (tokens,) else "x".join(map(str, self.own))


def layout_of(axes: Axes) -> Layout | None:
    """How a tensor can be laid out as a map; None: rows or columns are missing, or twice there."""
    own = tuple(prod(part.size for part in axis) for axis in axes[1:])
    tokens = [(i, axis[0]) for i, axis in enumerate(axes) if axis and axis[0].kind == TOKENS]
    if len(tokens) > 1 or len(axes) < 3:
        return None
    inside: list[Axis] = [*axes]
    axis, before, after = 0, 0, 0
    if tokens:
        axis, part = tokens[0]
        inside[axis], before = part.inside, part.before
        after = part.size - before - prod(p.size for p in part.inside)
    parts = merged(part for axis in inside for part in axis)
    if any(part.kind == SHIFTED for part in parts):
        return None
    by_kind = {kind: _of_kind(parts, kind) for kind in (CHANNELS, ROWS, COLUMNS)}
    sizes = {kind: prod(parts[i].size for i in numbers) for kind, numbers in by_kind.items()}
    shape = (sizes[CHANNELS], sizes[ROWS], sizes[COLUMNS])
    order = tuple(i for numbers in by_kind.values() for i in numbers)
    if len(axes) == 4 and not axes[0] and own == shape and not any(map(has_grid, axes[1:])):
        return Layout(shape, own, parts=(shape[0],), order=(0,))  # pooled: 1x1
    whole = all(_is_whole([parts[i] for i in by_kind[kind]]) for kind in (ROWS, COLUMNS))
    if not whole or shape[1] * shape[2] == 1:
        return None
    return Layout(shape, own, tuple(p.size for p in parts), order, axis, before, after)


def layout_of_tokens(shape: Shape, before: int, picture: Shape) -> Layout | None:
    """A layer of (1,T,C) whose tokens but the first `before` are the rows of a picture.

    None if they do not have the proportions of the `picture`, height by width.
    """
    if len(shape) != 3 or shape[0] != 1 or shape[1] <= before:
        return None
    count, (height, width) = shape[1] - before, picture
    h = round(sqrt(count * height / width))
    if not h or count % h or h * width != count // h * height:
        return None
    w, channels = count // h, shape[2]
    own, axis = shape[1:], 1 if before else 0
    return Layout((channels, h, w), own, (h, w, channels), (2, 0, 1), axis, before)


def _of_kind(parts: Axis, kind: str) -> list[int]:
    """Numbers of the parts of a kind, the outermost first."""
    numbers = [i for i, part in enumerate(parts) if part.kind == kind]
    return numbers if kind == CHANNELS else sorted(numbers, key=lambda i: parts[i].outer)


def _is_whole(parts: Iterable[Part]) -> bool:
    """Whether they are all outer factors, each once."""
    outer = 1
    for part in parts:
        if part.outer != outer:
            return False
        outer *= part.size
    return True


def as_maps(graph: Graph, layouts: Mapping[str, Layout], wanted: Iterable[str]) -> Graph:
    """The same network, in which each wanted layer is (N,C,h,w) under its own name."""
    kept = {*wanted}
    if all(layouts[name].is_map for name in kept & layouts.keys()):
        return graph
    work = _Surgery(graph, kept)
    for number, node in enumerate(graph.nodes):
        layout = layouts.get(node.name) if node.name in kept else None
        if layout is None or layout.is_map:
            work.keep(number, node)
        else:
            work.lay_out(number, node, layout)
    return work.graph()


class _Surgery:
    """A graph that is written anew, node by node."""

    def __init__(self, graph: Graph, kept: set[str]) -> None:
        self._old, self._kept = graph, kept
        self._nodes: list[Node] = []
        self._names = {node.name for node in graph.nodes}
        self._moved: dict[Entry, Entry] = {}
        self._maps: dict[Entry, tuple[Entry, Shape]] = {}  # a layer: its map, by which transpose

    def graph(self) -> Graph:
        heads = tuple(map(self._target, self._old.heads))
        read = [(i, 0) for i, node in enumerate(self._nodes) if node.name in self._kept]
        return prune(replace(self._old, nodes=tuple(self._nodes), heads=heads), read)

    def keep(self, number: int, node: Node) -> None:
        """Copy a node. One that makes a map of a channels-last layer, or a mean of it, reads it."""
        laid, order = self._maps.get(node.inputs[0], (None, ())) if node.inputs else (None, ())
        maps = node.op == "transpose" and literal_eval(node.attrs.get("axes", "()")) == order
        if laid and maps and node.name not in self._kept:
            self._moved[number, 0] = laid
            return
        if laid and node.op == "mean" and node.attrs.get("keepdims", "False") == "False":
            axes = literal_eval(node.attrs.get("axis", "()"))
            if axes in (tuple(order[2:]), tuple(order[:1:-1])):
                attrs = {**node.attrs, "axis": "(2, 3)"}
                self._moved[number, 0] = self._add(node.op, node.name, attrs, [laid], new=False)
                return
        self._moved[number, 0] = self._add(
            node.op, node.name, node.attrs, map(self._target, node.inputs), new=False
        )

    def lay_out(self, number: int, node: Node, layout: Layout) -> None:
        name = node.name
        self._names.discard(name)
        own = self._add(node.op, f"{name}/own", node.attrs, map(self._target, node.inputs))
        inside, tokens = layout.own, layout.shape[1] * layout.shape[2]
        ends = (0, layout.before, layout.before + tokens, layout.before + tokens + layout.after)
        x = own
        if layout.axis:
            x = self._slice(f"{name}/tokens", own, layout.axis, *ends[1:3])
            inside = (*inside[: layout.axis - 1], tokens, *inside[layout.axis :])
        steps = _steps(layout, inside)
        for i, (op, attribute, there, _) in enumerate(steps, 1):
            part = name if i == len(steps) else f"{name}/map{i}"
            x = self._add(op, part, {attribute: str(there)}, [x])
        if not layout.axis and [op for op, *_ in steps] == ["transpose"]:
            self._maps[number, 0] = x, steps[0][2]
        for i, (op, attribute, _, back) in enumerate(reversed(steps), 1):
            x = self._add(op, f"{name}/back{i}", {attribute: str(back)}, [x])
        if layout.axis:
            others = {
                i: self._slice(f"{name}/others{i}", own, layout.axis, *ends[i : i + 2])
                for i in (0, 2) if ends[i] < ends[i + 1]
            }  # fmt: skip
            pieces = [piece for _, piece in sorted([*others.items(), (1, x)])]
            attrs = {"axis": str(layout.axis), "num_args": str(len(pieces))}
            x = self._add("_npi_concatenate", f"{name}/back", attrs, pieces)
        self._moved[number, 0] = x

    def _slice(self, name: str, x: Entry, axis: int, begin: int, end: int) -> Entry:
        attrs = {"axis": str(axis), "begin": str(begin), "end": str(end)}
        return self._add("slice_axis", name, attrs, [x])

    def _add(
        self, op: str, name: str, attrs: dict[str, str], inputs: Iterable[Entry], new: bool = True
    ) -> Entry:
        while new and name in self._names:
            name += "_"
        self._names.add(name)
        self._nodes.append(Node(op, name, attrs, tuple(inputs)))
        return len(self._nodes) - 1, 0

    def _target(self, entry: Entry) -> Entry:
        return self._moved.get(entry) or (self._moved[entry[0], 0][0], entry[1])


def _steps(layout: Layout, inside: Shape) -> list[tuple[str, str, Shape, Shape]]:
    """Operators from the tensor to the map: name, attribute, and its value there and back."""
    order = (0, *(i + 1 for i in layout.order))
    turned = tuple(layout.parts[i] for i in layout.order)
    steps: list[tuple[str, str, Shape, Shape]] = []
    if inside != layout.parts:
        steps.append(("Reshape", "shape", (-1, *layout.parts), (-1, *inside)))
    if order != tuple(sorted(order)):
        back = tuple(order.index(i) for i in range(len(order)))
        steps.append(("transpose", "axes", order, back))
    if turned != layout.shape:
        steps.append(("Reshape", "shape", (-1, *layout.shape), (-1, *turned)))
    return steps
