"""Channels in whole blocks.

oneDNN 2.4 has its fast kernels for AVX-512, in one layout, and computes some filters at a time by
them. MXNet refuses a kernel that fills up weights by itself, so convolutions of 24, 40 or 512
filters run by older kernels in another layout, and what lies between the two is copied. Here
channels of zeros fill them up to 32, 48 and 528; the weights that read these are zero too, so the
network computes the same.
"""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import count

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Entry, Node, ancestors

BLOCK = 16  # numbers of a register
MOST = 1.2  # filters of a convolution of one pixel, after over before
_BY_CHANNEL = {"Activation": 1, "BatchNorm": 1, "clip": 1, "elemwise_add": 2, "relu": 1}  # tensors


def with_whole_blocks(
    definition: NetworkDefinition, entries: Collection[Entry]
) -> NetworkDefinition:
    """The same values of `entries`, with the channels between convolutions filled up.

    Every node keeps its number. What an entry or any other operator reads keeps its channels.
    """
    graph, parameters = definition.graph, dict(definition.parameters)
    nodes = {number: graph.nodes[number] for number in sorted(ancestors(graph, entries))}
    reads = Counter(source for node in nodes.values() for source, _ in node.inputs)
    alike = {number: {number} for number in nodes}  # tensors with the same channels
    kept = {number for number, node in nodes.items() if node.op == VARIABLE}
    kept |= {number for number, _ in entries}
    wide: set[int] = set()  # tensors that convolutions of more than one pixel make or read
    for number, node in nodes.items():
        if node.op == VARIABLE:
            continue
        tensors = [source for source, _ in node.inputs[: _BY_CHANNEL.get(node.op, 1)]]
        weights = [source for source, _ in node.inputs[len(tensors) :]]
        own = all(reads[w] == 1 and nodes[w].name in parameters for w in weights)
        if own and node.op in _BY_CHANNEL and node.attrs.get("axis", "1") == "1":
            joined = alike[number].union(*(alike[tensor] for tensor in tensors))
            alike |= dict.fromkeys(joined, joined)
        elif not (own and _is_plain(node)):
            kept |= {number, *(source for source, _ in node.inputs)}
        elif {*literal_eval(node.attrs["kernel"])} != {1}:
            wide |= {number, *tensors}

    def missing(number: int) -> int:
        """Channels that are added to a tensor."""
        if alike[number] & kept:
            return 0
        convolutions = (nodes[n] for n in alike[number] if _is_plain(nodes[n]))
        filters = int(next(convolutions).attrs["num_filter"])
        return _filled(filters, one_pixel=not alike[number] & wide) - filters

    changed = [*graph.nodes]
    for number, node in nodes.items():
        if node.op not in ("Convolution", "BatchNorm"):
            continue
        after, before = missing(number), missing(node.inputs[0][0])
        if node.op == "Convolution":
            filters = int(node.attrs["num_filter"]) + after
            changed[number] = replace(node, attrs=node.attrs | {"num_filter": str(filters)})
        for source, _ in node.inputs[1:]:
            value = parameters[nodes[source].name]
            widths = [(0, after), (0, before), (0, 0), (0, 0)][: value.ndim]
            parameters[nodes[source].name] = np.pad(value, widths)
    return replace(definition, graph=replace(graph, nodes=tuple(changed)), parameters=parameters)


def _filled(filters: int, one_pixel: bool) -> int:
    """Filters in whole blocks, unless that is too many more."""
    least = filters + -filters % BLOCK if filters > BLOCK else filters
    if not one_pixel or least <= BLOCK:
        return least
    whole = next(n for n in count(least, BLOCK) if n % _at_a_time(n) == 0)
    return whole if whole <= MOST * filters else least


def _at_a_time(filters: int) -> int:
    """How many filters of one pixel oneDNN computes together: 64 or 32 where 48 do not fit well."""
    return 48 if filters >= 0.95 * (filters + -filters % 48) else 32


def _is_plain(node: Node) -> bool:
    """Whether it is a convolution of images without groups."""
    attrs = node.attrs
    plain = attrs.get("num_group", "1") == "1" and attrs.get("layout", "None") in ("None", "NCHW")
    return node.op == "Convolution" and plain and attrs["kernel"].count(",") == 1
