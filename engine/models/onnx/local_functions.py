"""Functions that a file defines of operators, as early dynamo exporters do, put in their places.

They may use each other, so a small file can ask for very many nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from shardcam.engine.errors import ModelError

MAX_NODES = 50_000  # ten times what the largest networks have
MAX_INPUTS = 4096  # of one node
MAX_BYTES = 2**28  # of the nodes that are made of functions, without the weights that they read
LONGEST_NAME = 100  # of what is put before the names inside of a function

_Key = tuple[str, str, str]  # domain, name and overload


def without_functions(model: Any) -> Any:
    """The model with all of its functions written out.

    Raises
    ------
    ModelError
        It would have too many nodes, or too large ones, or functions that use themselves or mean
        two things.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    _require_one_meaning(model, functions)
    counts: dict[_Key, int] = {}
    for key in functions:
        _count_function(key, functions, counts, ())
    total = _count(model.graph.node, counts)
    if total > MAX_NODES:
        raise ModelError(f"it has {total} nodes; at most {MAX_NODES} are read")
    widest = max((len(node.input) for node in _all_nodes(model.graph.node)), default=0)
    if widest > MAX_INPUTS:
        raise ModelError(f"a node of it has {widest} inputs; at most {MAX_INPUTS} are read")
    if functions:
        written = _Writing(functions).nodes(model.graph.node, "")
        del model.graph.node[:]
        model.graph.node.extend(written)
    return model


class _Writing:
    """Functions on their way into the places where they are used."""

    def __init__(self, functions: dict[_Key, Any]) -> None:
        self._functions = functions
        self._left = MAX_BYTES

    def nodes(self, nodes: Iterable[Any], prefix: str) -> list[Any]:
        """The nodes, with those of each function in place of the node that uses it."""
        written = []
        for number, node in enumerate(nodes):
            function = self._functions.get(_key(node))
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    inside = self.nodes(attribute.g.node, f"{prefix}{number}/")
                    del attribute.g.node[:]
                    attribute.g.node.extend(inside)
            if function is None:
                written.append(node)
            else:
                name = (node.name or node.op_type)[:LONGEST_NAME]
                place = f"{prefix}{name}_{number}/"
                written += self.nodes(self._body(node, function, place), place)
        return written

    def _body(self, node: Any, function: Any, prefix: str) -> list[Any]:
        """The nodes of a function, reading and writing what the node that uses it does."""
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise ModelError(
                f"function {function.name!r} has fewer inputs or outputs than its node"
            )
        names = dict(zip(function.input, [*node.input, *[""] * len(function.input)], strict=False))
        names |= dict(zip(function.output, node.output, strict=False))
        given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        made = []
        for part in function.node:
            self._pay(part.ByteSize())
            copy = onnx.NodeProto()
            copy.CopyFrom(part)
            copy.name = f"{prefix}{part.name}" if part.name else ""
            self._rename(copy, names, prefix)
            self._set_attributes(copy, given)
            made.append(copy)
        return made

    def _rename(self, node: Any, names: dict[str, str], prefix: str) -> None:
        for listed in (node.input, node.output):
            renamed = [names.get(n, f"{prefix}{n}") if n else "" for n in listed]
            self._pay(sum(map(len, renamed)))
            del listed[:]
            listed.extend(renamed)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                raise ModelError("branches inside of functions are not supported")

    def _set_attributes(self, node: Any, given: dict[str, Any]) -> None:
        """Give a node what its function was given; what is left out there is left out here."""
        kept = []
        for attribute in node.attribute:
            if not attribute.ref_attr_name:
                kept.append(attribute)
            elif attribute.ref_attr_name in given:
                self._pay(given[attribute.ref_attr_name].ByteSize())
                value = onnx.AttributeProto()
                value.CopyFrom(given[attribute.ref_attr_name])
                value.name = attribute.name
                kept.append(value)
        del node.attribute[:]
        node.attribute.extend(kept)

    def _pay(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ModelError(f"its functions, written out, have more than {MAX_BYTES} bytes")


def _count_function(
    key: _Key, functions: dict[_Key, Any], counts: dict[_Key, int], within: tuple[_Key, ...]
) -> None:
    if key in within or len(within) > 100:
        raise ModelError(f"its function {key[1]!r} uses itself, or others too deeply")
    if key not in counts:
        for node in _all_nodes(functions[key].node):
            if _key(node) in functions:
                _count_function(_key(node), functions, counts, (*within, key))
        counts[key] = _count(functions[key].node, counts)


def _count(nodes: Iterable[Any], counts: dict[_Key, int]) -> int:
    return sum(counts.get(_key(n), 1) for n in _all_nodes(nodes))


def _key(node: Any) -> _Key:
    return node.domain, node.op_type, node.overload


def _require_one_meaning(model: Any, functions: dict[_Key, Any]) -> None:
    """Refuse functions of one name, of an operator's name, or of operators of another opset."""
    if len(functions) < len(model.functions):
        raise ModelError("two of its functions have one name")
    opset = max((o.version for o in model.opset_import if not o.domain), default=0)
    for function in functions.values():
        if onnx.defs.has(function.name, function.domain):
            raise ModelError(f"its function {function.name!r} has the name of an operator")
        own = max((o.version for o in function.opset_import if not o.domain), default=opset)
        for node in _all_nodes(function.node):
            if own != opset and not node.domain and not _is_alike(node.op_type, own, opset):
                raise ModelError(
                    f"its function {function.name!r} is of opset {own}, where {node.op_type} "
                    f"means another thing than in the file's opset {opset}"
                )


def _is_alike(op: str, first: int, second: int) -> bool:
    """Whether an operator is the same in both opsets."""
    try:
        one, other = (onnx.defs.get_schema(op, version, "") for version in (first, second))
    except onnx.defs.SchemaError:
        return False
    return bool(one.since_version == other.since_version)


def _all_nodes(nodes: Iterable[Any]) -> Iterable[Any]:
    """The nodes, and those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g.node)
