"""Graphs as MXNet's symbol JSON: what a file says is checked before MXNet believes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import VARIABLE, VERSION, Entry, Graph, Node
from shardcam.engine.models.symbol_operators import (
    check_operator,
    known_name,
    output_count,
    spelled,
)

MAX_TEXT, MAX_NODES = 2**24, 10_000  # ten times what the largest networks have
_WITH_STATES = 900  # since then BatchNorm's moving mean and variance are inputs of it
_LONGEST_NAME = 1000


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
