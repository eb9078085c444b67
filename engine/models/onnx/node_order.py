"""Which nodes of a file an output needs, and an order in which each can be computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from shardcam.engine.errors import ModelError


def ordered(nodes: Sequence[Any], wanted: Iterable[str], given: Collection[str]) -> list[int]:
    """Numbers of the nodes that the names in `wanted` depend on: the file's order, where it is one.

    `given` are the names that no node has to compute.

    Raises
    ------
    ModelError
        A name is defined twice, or nodes wait for each other.
    """
    makers = _makers(nodes, given)
    needed: set[int] = set()
    todo = [makers[name] for name in wanted if name in makers]
    reads = {}
    while todo:
        number = todo.pop()
        if number not in needed:
            needed.add(number)
            reads[number] = [makers[n] for n in read_by(nodes[number]) if n in makers]
            todo.extend(reads[number])
    order: dict[int, None] = {}
    waiting: dict[int, Any] = {}  # nodes whose inputs are being ordered, and what is left of them
    for number in sorted(needed):
        waiting[number] = iter(reads[number])
        while waiting:
            at = next(reversed(waiting))
            following = next((n for n in waiting[at] if n not in order), None)
            if following is None:
                order[at] = None
                waiting.popitem()
            elif following in waiting:
                a, b = (nodes[i].output[0] for i in (following, at))
                raise ModelError(f"it has a cycle: {a!r} and {b!r} need each other")
            else:
                waiting[following] = iter(reads[following])
    return list(order)


def read_by(node: Any) -> list[str]:
    """All names that a node reads, those that its branches take from around it included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inside = attribute.g
            own = {o for n in inside.node for o in n.output} | {i.name for i in inside.input}
            own |= {proto.name for proto in inside.initializer}
            read = [name for n in inside.node for name in read_by(n)]
            read += [output.name for output in inside.output]
            names.extend(name for name in read if name not in own)
    return names


def _makers(nodes: Sequence[Any], given: Collection[str]) -> dict[str, int]:
    """The number of the node that computes each name."""
    makers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in node.output:
            if name and (name in makers or name in given):
                raise ModelError(f"{name!r} is defined twice")
            makers[name] = number
    makers.pop("", None)
    return makers
