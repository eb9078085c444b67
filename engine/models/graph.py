"""Surgery on a network's graph, in plain Python: nothing here needs MXNet to run.

A graph is MXNet's symbol JSON as frozen values.  To explain a layer it is cut in
two: the *backbone* computes the layer and every other tensor the rest needs; the
*head* goes from there to the logits.  Only the head is ever differentiated.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shardcam.engine.errors import ModelError
from shardcam.engine.models.symbol_operators import (
    check_operator,
    known_name,
    output_count,
    spelled,
)

Entry = tuple[int, int]  # node number, output number

VARIABLE = "null"
TO_ROWS, TO_PIECES = "(-4, -1, {}, -2)", "(-3, -2)"  # shapes of `with_rows`
ROWS = "/rows"  # how its names end
VERSION = 10901
MAX_TEXT, MAX_NODES = 2**24, 10_000  # ten times what the largest networks have
_WITH_STATES = 900  # since then BatchNorm's moving mean and variance are inputs of it
_LONGEST_NAME = 1000


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


def parse(text: str) -> Graph:
    """Read MXNet's symbol JSON, of any version.

    Only operators and attributes of `engine.models.symbol_operators` pass: MXNet believes
    whatever it is given.

    Raises
    ------
    ModelError
        It is not a symbol file, or holds something that is not known.
    """
    if len(text) > MAX_TEXT:
        raise ModelError(f"not an MXNet symbol file: longer than {MAX_TEXT} letters")
    try:
        raw = json.loads(text)
        version = _version(raw)
        if len(raw["nodes"]) > MAX_NODES:
            raise ModelError(f"it has more than {MAX_NODES} nodes")
        nodes = tuple(_node(n, version >= _WITH_STATES) for n in raw["nodes"])
        heads = tuple(_entry(e) for e in raw["heads"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = repr(error)[:200]
        raise ModelError(f"not an MXNet symbol file: {reason}") from error
    for i, node in enumerate(nodes):
        if any(not 0 <= source < i for source, _ in node.inputs):
            raise ModelError(f"not an MXNet symbol file: node {node.name!r} is out of order")
        _require_outputs(nodes, node.inputs, node.name)
    if not heads or any(not 0 <= source < len(nodes) for source, _ in heads):
        raise ModelError("not an MXNet symbol file: its outputs do not exist")
    _require_outputs(nodes, heads, "the whole network")
    return Graph(nodes, heads, version)


def _version(raw: dict[str, Any]) -> int:
    """Of the MXNet that wrote it; files without one are older than 0.9."""
    version = raw.get("attrs", {}).get("mxnet_version", ["int", 800])[1]
    return min(_index(version), VERSION)


def _node(raw: dict[str, Any], upgraded: bool) -> Node:
    op, name = raw["op"], raw["name"]
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
        raise ModelError(f"a node has the name {str(name)[:100]!r}, which cannot be printed")
    attrs = {**raw.get("param", {}), **raw.get("attr", {}), **raw.get("attrs", {})}
    if not all(isinstance(text, str) for text in attrs.values()):
        raise ModelError(f"node {name!r} has an attribute that is not a text")
    inputs = tuple(_entry(e) for e in raw["inputs"])
    try:
        if raw.get("subgraphs"):
            raise ModelError("a graph inside of an operator is not supported")
        op = op if op == VARIABLE else known_name(op)
        check_operator(op, attrs := spelled(attrs), len(inputs), upgraded)
    except ModelError as error:
        raise ModelError(f"{str(op)[:100]} {name!r}: {error}") from None
    return Node(op, name, attrs, inputs)


def _entry(raw: list[Any]) -> Entry:
    return _index(raw[0]), _index(raw[1])


def _index(raw: object) -> int:
    if type(raw) is not int or not 0 <= raw < 2**31:
        raise ValueError(f"{str(raw)[:20]} is not the number of a node, an output or a version")
    return raw


def _require_outputs(nodes: Sequence[Node], entries: Iterable[Entry], reader: str) -> None:
    for number, output in entries:
        node = nodes[number]
        if output >= output_count(node.op, node.attrs):
            raise ModelError(
                f"{node.op} {node.name!r} has no output {output}, which {reader!r} reads"
            )


def to_json(graph: Graph) -> str:
    """Write MXNet's symbol JSON, the same text for the same graph."""
    return json.dumps(
        {
            "nodes": [
                {
                    "op": n.op,
                    "name": n.name,
                    "attrs": n.attrs,
                    "inputs": [[*e, 0] for e in n.inputs],
                }
                for n in graph.nodes
            ],
            "arg_nodes": [i for i, n in enumerate(graph.nodes) if n.op == VARIABLE],
            "heads": [[*e, 0] for e in graph.heads],
            "attrs": {"mxnet_version": ["int", graph.version]},
        },
        sort_keys=True,
        ensure_ascii=False,  # MXNet knows no other way to write them
    )


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
    nodes: list[Node] = []
    moved: list[int] = []
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple((moved[at], out) for at, out in node.inputs)))
        if node.name in pieces and node.op != VARIABLE:
            for part, shape in ((ROWS, TO_ROWS.format(pieces[node.name])), ("/pieces", TO_PIECES)):
                source = ((len(nodes) - 1, 0),)
                nodes.append(Node("Reshape", f"{node.name}{part}", {"shape": shape}, source))
        moved.append(len(nodes) - 1)
    heads = tuple((moved[at], out) for at, out in graph.heads)
    return replace(graph, nodes=tuple(nodes), heads=heads)


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


def inference_form(graph: Graph) -> Graph:
    """The graph that computes the same in training mode as in inference mode.

    A head runs in training mode, because max-pooling's backward pass reads a
    workspace that MXNet fills only then.  So Dropout must be gone, losses too, and BatchNorm
    must use its stored statistics.  What MXNet's fusion gets wrong is spelled so that
    it leaves it alone.
    """
    return with_shared_dense(_with_unfused_sums(_with_frozen_batchnorm(_without_training(graph))))


def _without_training(graph: Graph) -> Graph:
    """Without Dropout, and without make_loss, which would ignore the gradient it is given."""
    bypass: dict[int, Entry] = {}
    for i, node in enumerate(graph.nodes):
        if node.op in ("Dropout", "make_loss"):
            source = node.inputs[0]
            bypass[i] = bypass.get(source[0], source)

    def target(entry: Entry) -> Entry:
        return bypass.get(entry[0], entry)

    nodes = tuple(replace(n, inputs=tuple(map(target, n.inputs))) for n in graph.nodes)
    return prune(Graph(nodes, tuple(map(target, graph.heads))))


def _with_frozen_batchnorm(graph: Graph) -> Graph:
    frozen = {"use_global_stats": "True"}
    return replace(
        graph,
        nodes=tuple(
            replace(n, attrs=n.attrs | frozen) if n.op == "BatchNorm" else n for n in graph.nodes
        ),
    )


def _with_unfused_sums(graph: Graph) -> Graph:
    """Add a convolution to what follows from it by ``broadcast_add``.

    Of ``elemwise_add(f(conv), conv)``, f any chain of normalisation and activation,
    oneDNN's fusion in MXNet 1.9.1 gives wrong values or an error.
    """

    roots: list[int] = []  # of each node: where the chain that it ends begins
    for i, node in enumerate(graph.nodes):
        roots.append(roots[node.inputs[0][0]] if node.op in _CHAINED else i)

    def respelled(node: Node) -> Node:
        if node.op != "elemwise_add":
            return node
        first, second = (roots[number] for number, _ in node.inputs)
        same = first == second and graph.nodes[first].op == "Convolution"
        return replace(node, op="broadcast_add") if same else node

    return replace(graph, nodes=tuple(map(respelled, graph.nodes)))


def with_shared_dense(graph: Graph) -> Graph:
    """Add 0 to each dense layer that is read more than once, or read and an output.

    oneDNN's fusion in MXNet 1.9.1 joins a dense layer and an elementwise operator that
    reads it, whatever else reads it too; then some get the value of the other. The sum
    cannot be joined, and its gradient is exact.
    """
    readers = Counter([*(entry for n in graph.nodes for entry in n.inputs), *graph.heads])
    names = {n.name for n in graph.nodes}
    nodes: list[Node] = []
    moved: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        nodes.append(replace(node, inputs=tuple((moved[at], out) for at, out in node.inputs)))
        shared = f"{node.name}_shared"
        if node.op == "FullyConnected" and readers[i, 0] > 1 and shared not in names:
            nodes.append(Node("_plus_scalar", shared, {"scalar": "0"}, ((len(nodes) - 1, 0),)))
        moved[i] = len(nodes) - 1
    return Graph(tuple(nodes), tuple((moved[at], out) for at, out in graph.heads))


def differentiable(graph: Graph) -> Graph:
    """Spell transposes by ``SwapAxis`` where MXNet's backward pass would fail on oneDNN's.

    A convolution's gradient comes in blocks of channels. Where it reaches a transpose of up to
    four axes through a reshape, MXNet 1.9.1 cannot reorder it ("could not create a primitive
    descriptor for a reorder primitive"). ``SwapAxis`` is exact, and several times as slow.
    """
    blocked = _blocked_gradients(graph)
    nodes: list[Node] = []
    moved: list[int] = []
    for number, node in enumerate(graph.nodes):
        node = replace(node, inputs=tuple((moved[at], out) for at, out in node.inputs))
        order = literal_eval(node.attrs["axes"]) if node.attrs.get("axes") else ()
        if node.op == "transpose" and 2 < len(order) < 5 and blocked[number] == _RESHAPED:
            swaps = _swaps(order)
            for i, (first, second) in enumerate(swaps, 1):
                name = node.name if i == len(swaps) else f"{node.name}/swap{i}"
                attrs = {"dim1": str(first), "dim2": str(second)}
                source = ((len(nodes) - 1, 0),) if i > 1 else node.inputs
                nodes.append(Node("SwapAxis", name, attrs, source))
        else:
            nodes.append(node)
        moved.append(len(nodes) - 1)
    heads = tuple((moved[at], out) for at, out in graph.heads)
    return replace(graph, nodes=tuple(nodes), heads=heads)


def _blocked_gradients(graph: Graph) -> list[int]:
    """Of each node's output: whether its gradient is in blocks, and reshaped since."""
    states = [0] * len(graph.nodes)
    for number, node in reversed([*enumerate(graph.nodes)]):
        state = states[number]
        if node.op in ("Convolution", "Deconvolution"):
            state = _BLOCKED
        elif node.op in _UNBLOCKED:
            state = 0
        elif node.op in ("Reshape", "Flatten", "expand_dims", "squeeze") and state:
            state = _RESHAPED
        for source, _ in node.inputs:
            states[source] = max(states[source], state)
    return states


def _swaps(order: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of axes whose exchange, one after the other, makes a transpose."""
    axes, swaps = [*range(len(order))], []
    for i, wanted in enumerate(order):
        at = axes.index(wanted)
        if at != i:
            swaps.append((i, at))
            axes[i], axes[at] = axes[at], axes[i]
    return swaps


_BLOCKED, _RESHAPED = 1, 2
_UNBLOCKED = ("FullyConnected", "LayerNorm", "batch_dot", "softmax", "transpose")
_CHAINED = ("BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "sigmoid", "hard_sigmoid")


def without_loss(graph: Graph) -> tuple[Graph, str]:
    """The graph with what a loss at its end computes, and that loss, "" where it means classes.

    Losses ignore the gradient they are given. The labels go with them.
    """
    number, _ = graph.heads[0]
    loss = graph.nodes[number]
    if loss.op not in LOSSES:
        return prune(graph), ""
    op, attrs = LOSSES[loss.op], {}
    if loss.op == "SoftmaxOutput":
        given = {key for key, text in loss.attrs.items() if text in ("True", "1")}
        if "multi_output" in given:
            attrs = {"mode": "channel"}
        elif "preserve_shape" in given:
            op = "softmax"
    nodes = [*graph.nodes]
    nodes[number] = Node(op, loss.name, attrs, loss.inputs[:1])
    plain = prune(replace(graph, nodes=tuple(nodes), heads=((number, 0), *graph.heads[1:])))
    return plain, loss.op if op == "_copy" else ""


LOSSES = {
    "SoftmaxOutput": "SoftmaxActivation",
    "LogisticRegressionOutput": "sigmoid",
    **dict.fromkeys(("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput"), "_copy"),
}
