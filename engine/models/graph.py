"""Surgery on a network's graph, in plain Python: nothing here needs MXNet to run.

A graph is MXNet's symbol JSON as frozen values.  To explain a layer it is cut in
two: the *backbone* computes the layer and every other tensor the rest needs; the
*head* goes from there to the logits.  Only the head is ever differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

Entry = tuple[int, int]  # node number, output number

VARIABLE = "null"
TO_ROWS, TO_PIECES = "(-4, -1, {}, -2)", "(-3, -2)"  # shapes of `with_rows`
ROWS = "/rows"  # how its names end
VERSION = 10901


@dataclass(frozen=True)
class Node:
    """An operator, or a variable (``op == "null"``): input or parameter."""

    op: str
    name: str
    attrs: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, and the entries that are its outputs."""

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    version: int = VERSION  # of the MXNet that wrote it

    def number(self, name: str) -> int:
        """Position of the operator called `name`, else of the variable; KeyError if neither is."""
        found = [i for i, node in enumerate(self.nodes) if node.name == name]
        if not found:
            raise KeyError(name)
        return next((i for i in found if self.nodes[i].op != VARIABLE), found[0])


@dataclass(frozen=True)
class Cut:
    """A graph cut at one layer.

    `crossing` names the head's inputs in the order of the backbone's outputs; the
    first is the layer itself.  More than one means that the layer lies inside a
    residual block or a branch.
    """

    layer: str
    backbone: tuple[Entry, ...]  # entries of the whole graph
    head: Graph
    crossing: tuple[str, ...]


class Rewriting:
    """A graph that is written anew, node by node.

    Whatever read a node reads what was written last for it. So nothing may be written after an
    operator with several outputs.
    """

    def __init__(self, graph: Graph) -> None:
        self._old = graph
        self._nodes: list[Node] = []
        self._last: list[int] = []  # of each old node: the new one that stands for it

    def nodes(self) -> Iterator[tuple[int, Node]]:
        """The old nodes by number, reading new ones: each is to be written, or others for it."""
        for number, node in enumerate(self._old.nodes):
            yield number, replace(node, inputs=tuple(map(self.now, node.inputs)))
            self._last.append(len(self._nodes) - 1)

    def now(self, entry: Entry) -> Entry:
        """Where an output of the old graph is in the new one."""
        return self._last[entry[0]], entry[1]

    def write(self, node: Node) -> Entry:
        """Write a node that reads new ones, and return its first output."""
        self._nodes.append(node)
        return len(self._nodes) - 1, 0

    def add(self, op: str, name: str, attrs: Mapping[str, object], *inputs: Entry) -> Entry:
        """Write an operator, or a variable, that the old graph does not have."""
        return self.write(Node(op, name, {key: str(value) for key, value in attrs.items()}, inputs))

    def graph(self) -> Graph:
        """The new graph, with the heads of the old one."""
        heads = tuple(map(self.now, self._old.heads))
        return replace(self._old, nodes=tuple(self._nodes), heads=heads)


def ancestors(graph: Graph, entries: Iterable[Entry]) -> set[int]:
    """Numbers of all nodes that the entries depend on, their own nodes included."""
    found: set[int] = set()
    todo = [number for number, _ in entries]
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo.extend(source for source, _ in graph.nodes[number].inputs)
    return found


def descendants(graph: Graph, number: int) -> set[int]:
    """Numbers of all nodes that depend on node `number`, without itself."""
    found = {number}
    for i, node in enumerate(graph.nodes):
        if any(source in found for source, _ in node.inputs):
            found.add(i)
    return found - {number}


def prune(graph: Graph, kept: Iterable[Entry] = ()) -> Graph:
    """Drop every node that neither an output nor one of `kept` needs."""
    keep = sorted(ancestors(graph, (*graph.heads, *kept)))
    number = {old: new for new, old in enumerate(keep)}
    nodes = tuple(
        replace(
            graph.nodes[old],
            inputs=tuple((number[source], out) for source, out in graph.nodes[old].inputs),
        )
        for old in keep
    )
    return Graph(nodes, tuple((number[source], out) for source, out in graph.heads))


def cut(graph: Graph, layer: str, parameters: Iterable[str]) -> Cut:
    """Cut the graph at the first output of node `layer`.

    The head holds what depends on the layer.  Whatever else it reads, parameters
    apart, crosses the cut as a further input and carries no gradient.
    """
    tap = graph.number(layer)
    inside = descendants(graph, tap) & ancestors(graph, graph.heads)
    known = set(parameters)
    crossing: list[Entry] = [(tap, 0)]
    for number in sorted(inside):
        for entry in graph.nodes[number].inputs:
            node = graph.nodes[entry[0]]
            if node.attrs.get("shape") == TO_PIECES and entry[0] not in inside:
                entry = node.inputs[0]  # one row for each image
                node = graph.nodes[entry[0]]
            is_parameter = node.op == VARIABLE and node.name in known
            if entry[0] not in inside and not is_parameter and entry not in crossing:
                crossing.append(entry)
    names = tuple(f"{graph.nodes[number].name}_crossing{out}" for number, out in crossing)
    return Cut(layer, tuple(crossing), _head(graph, crossing, names), names)


def with_rows(graph: Graph, pieces: Mapping[str, int]) -> Graph:
    """The same graph, in which named tensors with so many rows for each image have one.

    The batch is multiplied by windows or heads in between; what crosses a cut must not be.
    """
    new = Rewriting(graph)
    for _, node in new.nodes():
        x = new.write(node)
        if node.name in pieces and node.op != VARIABLE:
            rows = TO_ROWS.format(pieces[node.name])
            x = new.add("Reshape", f"{node.name}{ROWS}", {"shape": rows}, x)
            new.add("Reshape", f"{node.name}/pieces", {"shape": TO_PIECES}, x)
    return new.graph()


def entry_of(graph: Graph, name: str) -> Entry:
    """The first output of an operator, one row for each image where `with_rows` made that."""
    try:
        return graph.number(f"{name}{ROWS}"), 0
    except KeyError:
        return graph.number(name), 0


def _head(graph: Graph, crossing: list[Entry], names: tuple[str, ...]) -> Graph:
    """Put variables in the place of the crossing tensors and drop what lies below them."""
    variables = tuple(Node(VARIABLE, name) for name in names)
    shift = len(variables)
    moved: dict[Entry, Entry] = {entry: (i, 0) for i, entry in enumerate(crossing)}

    def target(entry: Entry) -> Entry:
        return moved.get(entry, (entry[0] + shift, entry[1]))

    nodes = tuple(replace(n, inputs=tuple(map(target, n.inputs))) for n in graph.nodes)
    return prune(Graph(variables + nodes, tuple(map(target, graph.heads))))
