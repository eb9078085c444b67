"""Functions that a file defines of operators, as early dynamo exporters do, put in their places.

They may use each other, so a small file can ask for very many nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from shardcam.engine.errors import ModelError

MAX_NODES = 50_000  # ten times what the largest networks have

_Key = tuple[str, str]


def without_functions(model: Any) -> Any:
    """The model with all of its functions written out.

    Raises
    ------
    ModelError
        It would have too many nodes, or a function that uses itself.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[_Key, int] = {}
    for key in functions:
        _count_function(key, functions, counts, ())
    total = _count(model.graph.node, counts)
    if total > MAX_NODES:
        raise ModelError(f"it has {total} nodes; at most {MAX_NODES} are read")
    if functions:
        written = _written_out(model.graph.node, functions, "")
        del model.graph.node[:]
        model.graph.node.extend(written)
    return model


def _written_out(nodes: Iterable[Any], functions: dict[_Key, Any], prefix: str) -> list[Any]:
    """The nodes, with those of each function in place of the node that uses it."""
    written = []
    for number, node in enumerate(nodes):
        function = functions.get((node.domain, node.op_type))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inside = _written_out(attribute.g.node, functions, f"{prefix}{number}/")
                del attribute.g.node[:]
                attribute.g.node.extend(inside)
        if function is None:
            written.append(node)
        else:
            place = f"{prefix}{node.name or node.op_type}_{number}/"
            written += _written_out(_body(node, function, place), functions, place)
    return written


def _body(node: Any, function: Any, prefix: str) -> list[Any]:
    """The nodes of a function, reading and writing what the node that uses it does."""
    if len(node.input) > len(function.input) or len(node.output) > len(function.output):
        raise ModelError(f"function {function.name!r} has fewer inputs or outputs than its node")
    names = dict(zip(function.input, [*node.input, *[""] * len(function.input)], strict=False))
    names |= dict(zip(function.output, node.output, strict=False))
    given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
    made = []
    for part in function.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(part)
        copy.name = f"{prefix}{part.name}" if part.name else ""
        _rename(copy, names, prefix)
        _set_attributes(copy, given)
        made.append(copy)
    return made


def _rename(node: Any, names: dict[str, str], prefix: str) -> None:
    for listed in (node.input, node.output):
        renamed = [names.get(n, f"{prefix}{n}") if n else "" for n in listed]
        del listed[:]
        listed.extend(renamed)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            raise ModelError("branches inside of functions are not supported")


def _set_attributes(node: Any, given: dict[str, Any]) -> None:
    """Give a node what its function was given; what is left out there is left out here."""
    kept = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept.append(attribute)
        elif attribute.ref_attr_name in given:
            value = onnx.AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
            kept.append(value)
    del node.attribute[:]
    node.attribute.extend(kept)


def _count_function(
    key: _Key, functions: dict[_Key, Any], counts: dict[_Key, int], within: tuple[_Key, ...]
) -> None:
    if key in within or len(within) > 100:
        raise ModelError(f"its function {key[1]!r} uses itself, or others too deeply")
    if key not in counts:
        for node in _all_nodes(functions[key].node):
            if (node.domain, node.op_type) in functions:
                used = node.domain, node.op_type
                _count_function(used, functions, counts, (*within, key))
        counts[key] = _count(functions[key].node, counts)


def _count(nodes: Iterable[Any], counts: dict[_Key, int]) -> int:
    return sum(counts.get((n.domain, n.op_type), 1) for n in _all_nodes(nodes))


def _all_nodes(nodes: Iterable[Any]) -> Iterable[Any]:
    """The nodes, and those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g.node)
