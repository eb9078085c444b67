"""Attention by operators that read queries, keys and values where one dense layer puts them.

As files have it, slices and transposes copy these before two products of OpenBLAS, whose copy in
MXNet knows no AVX-512. oneDNN's products read them in place, if the rows of the dense layer are
in its order: of each head the queries, the keys and the values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod, sqrt

import mxnet as mx
import numpy as np
import numpy.typing as npt

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Entry, Graph, Node, Rewriting, ancestors
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.types import F4

_MOVES = {"Reshape", "SliceChannel", "SwapAxis", "expand_dims", "slice_axis", "squeeze",
          "transpose"}  # fmt: skip
_SCALES = {"_mul_scalar": 1, "_div_scalar": -1}
_EXACT = 2**24  # numbers that float32 can count
_QK, _VALATT = (f"_contrib_interleaved_matmul_selfatt_{kind}" for kind in ("qk", "valatt"))

_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Read:
    """What a product reads, (batch * heads,tokens,size): rows of a dense layer."""

    dense: Node
    rows: _Rows  # (heads,size) of its weight
    tokens: int
    scale: float  # that they are multiplied by on the way

    @property
    def form(self) -> tuple[Entry, int, tuple[int, ...]]:
        """What must be the same for queries, keys and values."""
        return self.dense.inputs[0], self.tokens, self.rows.shape


def with_joined_attention(
    definition: NetworkDefinition, entries: Collection[Entry]
) -> tuple[NetworkDefinition, list[Entry]]:
    """The same values, and where its entries are now."""
    parameters = dict(definition.parameters)
    found = {first: (second, reads) for first, second, reads in _attention(definition, entries)}
    firsts = {second: first for first, (second, _) in found.items()}
    joined: dict[int, Entry] = {}  # queries, keys and values, by the first product
    new = Rewriting(definition.graph)
    for number, node in new.nodes():
        name = node.name
        if number in found:
            reads = found[number][1]
            source, tokens, (heads, _) = reads[0].form
            values = dict(zip(("weight", "bias"), _joined(definition, reads), strict=True))
            parameters |= {f"{name}/joined_{kind}": value for kind, value in values.items()}
            variables = [new.add(VARIABLE, f"{name}/joined_{kind}", {}) for kind in values]
            rows, width = values["weight"].shape
            x = new.now(source)
            x = new.add("Reshape", f"{name}/tokens", {"shape": (-1, tokens, width)}, x)
            x = new.add("transpose", f"{name}/tokens_first", {"axes": (1, 0, 2)}, x)
            dense = {"num_hidden": rows, "flatten": False}
            x = new.add("FullyConnected", f"{name}/dense", dense, x, *variables)
            joined[number] = new.add("Reshape", f"{name}/joined", {"shape": (0, 0, -1)}, x)
            new.add(_QK, name, {"heads": heads}, joined[number])
        elif number in firsts:
            _, _, (heads, size) = found[firsts[number]][1][0].form
            x = joined[firsts[number]]
            x = new.add(_VALATT, f"{name}/joined", {"heads": heads}, x, node.inputs[0])
            x = new.add("Reshape", f"{name}/heads", {"shape": (0, -1, size)}, x)
            new.add("transpose", name, {"axes": (1, 0, 2)}, x)
        else:
            new.write(node)
    rewritten = replace(definition, graph=new.graph(), parameters=parameters)
    return rewritten, list(map(new.now, entries))


def _attention(
    definition: NetworkDefinition, entries: Collection[Entry]
) -> Iterator[tuple[int, int, list[_Read]]]:
    """Both products of each self-attention, and its queries, keys and values."""
    nodes = definition.graph.nodes
    products = [n for n in ancestors(definition.graph, entries) if nodes[n].op == "batch_dot"]
    paths = {
        (n, side): _path(definition, nodes[n].inputs[side]) for n in products for side in (0, 1)
    }
    starts = {path[0] for path in paths.values()}
    dense = {entry for entry in starts if nodes[entry[0]].op == "FullyConnected"}
    shares = {nodes[number].inputs[0] for number in products}
    shapes = _shapes(definition, dense | shares | {(number, 0) for number in products})
    firsts: dict[int, list[_Read]] = {}
    for number in sorted(products):
        turned = [nodes[number].attrs.get(f"transpose_{side}") == "True" for side in "ab"]
        query, key, value = (
            _read(definition, paths[number, side], shapes, last_first)
            for side, last_first in ((0, turned[0]), (1, not turned[1]), (1, turned[1]))
        )
        if query and key and query.form == key.form:
            firsts[number] = [query, key]
        elif value and not turned[0]:
            above = ancestors(definition.graph, [nodes[number].inputs[0]])
            fitting = [
                n for n in firsts if n in above and firsts[n][0].form == value.form
                and shapes[n, 0] == shapes[nodes[number].inputs[0]]
            ]  # fmt: skip
            if fitting:
                yield max(fitting), number, [*firsts.pop(max(fitting)), value]


def _path(definition: NetworkDefinition, entry: Entry) -> list[Entry]:
    """From the first entry that is not merely moved or scaled to this one."""
    path = [entry]
    while definition.graph.nodes[path[0][0]].op in _MOVES | {*_SCALES}:
        path.insert(0, definition.graph.nodes[path[0][0]].inputs[0])
    return path


def _shapes(
    definition: NetworkDefinition, entries: Collection[Entry]
) -> dict[Entry, tuple[int, ...]]:
    """Of entries, for two images."""
    if not entries:
        return {}
    symbol = symbol_of(Graph(definition.graph.nodes, tuple(entries)))
    known = {
        name: definition.parameters[name].shape
        for name in symbol.list_inputs()
        if name in definition.parameters
    }
    known[definition.input_name] = 2, *definition.preprocessing.input_shape
    return dict(zip(entries, symbol.infer_shape(**known)[1], strict=True))


def _read(
    definition: NetworkDefinition,
    path: Sequence[Entry],
    shapes: dict[Entry, tuple[int, ...]],
    last_first: bool,
) -> _Read | None:
    """What the path of a product's input reads, if all of it is rows of one dense layer."""
    nodes, shape = definition.graph.nodes, shapes.get(path[0], ())
    dense = nodes[path[0][0]]
    known = all(nodes[source].name in definition.parameters for source, _ in dense.inputs[1:])
    if not shape or not known or prod(shape) > _EXACT:
        return None
    steps = [(nodes[number], output) for number, output in path[1:]]
    scale = prod(float(n.attrs["scalar"]) ** _SCALES[n.op] for n, _ in steps if n.op in _SCALES)
    moves = tuple((n.op, tuple(n.attrs.items()), out) for n, out in steps if n.op in _MOVES)
    places = _places(moves, shape)
    if places.ndim != 3:
        return None
    places = places.swapaxes(1, 2) if last_first else places
    each, tokens = shape[-1], places.shape[1]
    heads = int((places[:, 0, 0] < tokens * each).sum())  # of the first sequence
    rows = places[:heads, 0] % each
    sequences = np.arange(len(places) // max(heads, 1))[:, None, None, None]
    expected = (sequences * tokens + np.arange(tokens)[:, None]) * each + rows[:, None]
    same = np.array_equal(places, expected.reshape(-1, tokens, places.shape[2]))
    return _Read(dense, rows, tokens, scale) if same else None


@lru_cache(maxsize=8)  # the blocks of a network are alike
def _places(
    moves: tuple[tuple[str, tuple[tuple[str, str], ...], int], ...], shape: tuple[int, ...]
) -> _Rows:
    """Where in a tensor each number is from that moving it leaves."""
    nodes, at = [Node(VARIABLE, "x")], (0, 0)
    for op, attrs, output in moves:
        nodes.append(Node(op, f"move{len(nodes)}", dict(attrs), (at,)))
        at = len(nodes) - 1, output
    symbol = symbol_of(Graph(tuple(nodes), (at,)))
    numbers = mx.nd.arange(prod(shape)).reshape(shape)
    (moved,) = symbol.bind(mx.cpu(), {"x": numbers}, grad_req="null").forward(is_train=False)
    places: _Rows = moved.asnumpy().astype(np.intp)
    return places


def _joined(definition: NetworkDefinition, reads: Sequence[_Read]) -> tuple[F4, F4]:
    """Weight and bias of the dense layer of all three, in whose scores oneDNN divides by a root."""
    heads, size = reads[0].rows.shape
    scales = [reads[0].scale * reads[1].scale * sqrt(size), 1, reads[2].scale]
    weights, biases = [], []
    for read, scale in zip(reads, scales, strict=True):
        names = [definition.graph.nodes[source].name for source, _ in read.dense.inputs[1:]]
        weight, *bias = (definition.parameters[name][read.rows] for name in names)
        weights.append(weight * np.float32(scale))  # (heads,size,channels)
        biases.append(bias[0] * np.float32(scale) if bias else np.zeros_like(weight[..., 0]))
    joined = np.stack(weights, 1).reshape(3 * heads * size, -1)
    return joined, np.stack(biases, 1).reshape(-1)
