"""From what a file ends with to its logits: the link is taken off, and remembered.

The link is what makes scores of logits: a softmax over the classes, a sigmoid of each, or
nothing where the outputs are numbers, as of a regression or an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Entry, Graph, Node, prune
from shardcam.engine.models.layer_names import layer_shapes
from shardcam.engine.types import F4, NO_LINK, SIGMOID, SOFTMAX

_SAME = (
    *("BlockGrad", "Cast", "Flatten", "Reshape", "SwapAxis", "_copy", "expand_dims", "identity"),
    *("make_loss", "squeeze", "transpose"),
)
_RISING = (
    *("_maximum_scalar", "_minimum_scalar", "_minus_scalar", "_plus_scalar", "clip", "exp"),
    *("log", "log10", "log1p", "log2", "sqrt"),
)
_FACTORS = ("_div_scalar", "_mul_scalar", "_power_scalar")
_WITH_CONSTANT = ("broadcast_add", "broadcast_div", "broadcast_mul", "broadcast_sub")
SOFTMAXES = ("SoftmaxActivation", "log_softmax", "softmax", "softmin")
_BOUNDED = ("L2Normalization", "arctan", "erf", "hard_sigmoid", "softsign", "tanh")
_NEVER_NEGATIVE = ("abs", "exp", "relu", "softrelu", "sqrt", "square")
_SQUARES = ("_power_scalar", "elemwise_mul", "norm", "square")
_WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected")


def at_logits(
    definition: NetworkDefinition, wanted: str | None = None, classifies: bool = False
) -> NetworkDefinition:
    """The network as it ends before its link, with the link that it has or that is `wanted`.

    One output z with a sigmoid becomes the logits -z and z of classes 0 and 1: all else is as
    in a network of two classes. With `wanted` none nothing is taken off.

    Parameters
    ----------
    definition
        `graph` ends as the file does, in one vector for each image.
    wanted
        softmax, sigmoid or none; by default as the file says, which a remark adds to where it
        does not.
    classifies
        The file is known to end in the logits of classes if it has several outputs.

    Raises
    ------
    ConfigError
        `wanted` is softmax and there is one output.
    """
    end = _End(definition, wanted)
    found = end.without_link() if wanted != NO_LINK else None
    link, remark = wanted or (found[1] if found else None), ""
    if link is None:
        link, remark = end.guess(classifies)
    if found and found[1] == SOFTMAX and end.outputs == 1 and wanted is None:
        link, remark = SIGMOID, "a softmax of one output, which is always 1: a sigmoid was taken"
    if link == SOFTMAX and end.outputs == 1:
        raise ConfigError(
            f"--link softmax: {definition.name} has one output, whose softmax is always 1; "
            "give --link sigmoid, or none for a number"
        )
    changed = replace(
        definition,
        graph=end.ending_at(found[0]) if found else definition.graph,
        link=link,
        remarks=(*definition.remarks, remark) if remark else definition.remarks,
    )
    return two_sided(changed) if link == SIGMOID and end.outputs == 1 else changed


class _End:
    """The last operators of a network, and what takes their place."""

    def __init__(self, definition: NetworkDefinition, wanted: str | None) -> None:
        self._wanted = wanted
        self._definition, self._nodes = definition, [*definition.graph.nodes]
        self._shapes = layer_shapes(definition)
        self._head = definition.graph.heads[0]
        self.outputs = prod(self._shape(self._head))

    def _shape(self, entry: Entry) -> tuple[int, ...]:
        return self._shapes.get(self._nodes[entry[0]].name, ())

    def without_link(self) -> tuple[Entry, str] | None:
        """Where the logits are, and the link that follows them; None if none is found."""
        return self._before(self._head, self.outputs)

    def ending_at(self, entry: Entry) -> Graph:
        """The graph up to `entry`, as (N,outputs)."""
        entry = self._vector(entry)
        return prune(Graph(tuple(self._nodes), (entry,), self._definition.graph.version))

    def guess(self, classifies: bool) -> tuple[str, str]:
        """The link of a file that does not end in one, and what to tell of it."""
        if kind := self._definition.loss or self._numbers():
            return NO_LINK, (
                f"the model file ends in {kind}, not in logits of classes: --link none was taken, "
                "and no class is claimed"
            )
        if self.outputs == 1 and self._mixes_links():
            return NO_LINK, (
                "the network has one output, made of softmaxes or sigmoids that were not taken "
                "off: --link none was taken, and no class is claimed; --output NAME cuts it before "
                "them"
            )
        if self.outputs == 1:
            return SIGMOID, (
                "the network has one output and no sigmoid after it: it was taken for the logit "
                "of class 1 (--link sigmoid); if it is a number, as of a regression: --link none"
            )
        if self._mixes_links():
            return SOFTMAX, (
                "the network ends in several softmaxes or sigmoids that were not taken off: its "
                "scores are a softmax of them (--link softmax); as they are: --link none"
            )
        return SOFTMAX, "" if classifies else (
            "the model file ends without softmax or sigmoid: --link softmax was taken; sigmoid "
            "is for several labels of an image, none for numbers and embeddings"
        )

    def _before(self, entry: Entry, size: int) -> tuple[Entry, str] | None:
        """What the link reads from which the vector `entry` of `size` numbers follows in order."""
        number, output = entry
        node, shape = self._nodes[number], self._shape(entry)
        if output or prod(shape) != size or sum(n > 1 for n in shape) > 1:
            return None
        if node.op in SOFTMAXES:
            return self._before_softmax(node, shape, size)
        if kind_of(node) == "sigmoid":
            return node.inputs[0], SIGMOID
        if node.op == "hard_sigmoid" and self._wanted == SIGMOID:  # the sigmoid of its slope
            slope = 4 * float(node.attrs.get("alpha", "0.2"))
            return self._scaled(node.inputs[0], slope), SIGMOID
        if node.op in ("Concat", "_npi_concatenate"):
            return self._before_concat(node)
        if node.op == "_rminus_scalar":  # 1 - p is the sigmoid of minus the logit
            found = self._before(node.inputs[0], size)
            return (self._scaled(found[0], -1), SIGMOID) if found and found[1] == SIGMOID else None
        source = in_order(node, self._nodes, self._definition.parameters)
        return self._before(source, size) if source else None

    def _before_softmax(
        self, node: Node, shape: tuple[int, ...], size: int
    ) -> tuple[Entry, str] | None:
        instance = node.op == "SoftmaxActivation" and node.attrs.get("mode") != "channel"
        axis = 1 if node.op == "SoftmaxActivation" else int(node.attrs.get("axis", "-1"))
        if not instance and (1, *shape)[axis] != size:
            return None
        source = node.inputs[0]
        inner = self._before(source, size)
        if inner and inner[1] == SOFTMAX:
            return inner
        temperature = node.attrs.get("temperature", "None")
        factor = 1 / float(temperature) if temperature != "None" else 1.0
        return self._scaled(source, -factor if node.op == "softmin" else factor), SOFTMAX

    def _before_concat(self, node: Node) -> tuple[Entry, str] | None:
        """Several outputs side by side, each with a sigmoid."""
        parts = [self._before(entry, prod(self._shape(entry))) for entry in node.inputs]
        if not all(part and part[1] == SIGMOID for part in parts):
            return None
        sources = tuple(self._vector(part[0]) for part in parts if part)
        return self._add(*_joined(f"{node.name}_logits", sources)), SIGMOID

    def _numbers(self) -> str:
        """What the network ends in, if no logits are like that: bounded, or one, never negative."""
        entry: Entry | None = self._head
        while entry is not None:
            node = self._nodes[entry[0]]
            if (kind := kind_of(node)) in _BOUNDED or (self.outputs == 1 and _is_positive(node)):
                return kind
            if self._divides_by_length(node):
                return "a vector of length 1"
            entry = in_order(node, self._nodes, self._definition.parameters)
        return ""

    def _divides_by_length(self, node: Node) -> bool:
        """Whether it divides a vector by what its squares sum up to."""
        if node.op not in ("broadcast_div", "elemwise_div"):
            return False
        vector, entry, between = *node.inputs, set()
        while entry != vector and (below := self._nodes[entry[0]]).inputs:
            between.add(below.op)
            entry = below.inputs[0]
        return entry == vector and not between.isdisjoint(_SQUARES)

    def _mixes_links(self) -> bool:
        """Whether softmaxes or sigmoids follow the last weights."""
        todo, seen = [self._head[0]], set()
        while todo:
            node = self._nodes[number := todo.pop()]
            if number in seen or node.op == VARIABLE or node.op in _WEIGHTED:
                continue
            if node.op in SOFTMAXES or kind_of(node) == "sigmoid":
                return True
            seen.add(number)
            todo += [source for source, _ in node.inputs]
        return False

    def _vector(self, entry: Entry) -> Entry:
        """The same numbers as (N,numbers), by fewer operators rather than by more."""
        size = prod(self._shape(entry))
        at = entry
        while len(self._shape(at)) != 1 and self._nodes[at[0]].op in ("Flatten", "Reshape"):
            at = self._nodes[at[0]].inputs[0]
            if prod(self._shape(at)) != size:
                break
        else:
            entry = at
        return entry if len(self._shape(entry)) == 1 else self._add("Flatten", "logits", (entry,))

    def _scaled(self, entry: Entry, factor: float) -> Entry:
        if factor == 1:
            return entry
        name = f"{self._nodes[entry[0]].name}_scaled"
        return self._add("_mul_scalar", name, (entry,), {"scalar": repr(factor)})

    def _add(
        self, op: str, name: str, inputs: tuple[Entry, ...], attrs: dict[str, str] | None = None
    ) -> Entry:
        node = Node(op, free_name(name, self._nodes), attrs or {}, inputs)
        shape = self._shape(inputs[0])
        self._nodes.append(node)
        sizes = (sum(prod(self._shape(i)) for i in inputs),)
        self._shapes[node.name] = shape if op == "_mul_scalar" else sizes
        return len(self._nodes) - 1, 0


def _is_positive(node: Node) -> bool:
    """Whether its values are never negative."""
    lowest = node.attrs.get("a_min" if node.op == "clip" else "scalar", "nan")
    clips = node.op in ("clip", "_maximum_scalar") and float(lowest) >= 0
    return clips or kind_of(node) in _NEVER_NEGATIVE


def in_order(node: Node, nodes: list[Node], parameters: Mapping[str, F4]) -> Entry | None:
    """What a node reads whose numbers are in the order of its own; None if it is not known."""
    if node.op in _SAME or node.op in _RISING or kind_of(node) == "relu":
        return node.inputs[0]
    if node.op in _FACTORS:
        return node.inputs[0] if float(node.attrs["scalar"]) > 0 else None
    if node.op in _WITH_CONSTANT:
        first, second = (parameters.get(nodes[number].name) for number, _ in node.inputs)
        scales = node.op in ("broadcast_div", "broadcast_mul")
        if second is not None and np.ptp(second) == 0:
            return node.inputs[0] if not scales or second.flat[0] > 0 else None
        if first is not None and np.ptp(first) == 0 and node.op.endswith(("add", "mul")):
            return node.inputs[1] if not scales or first.flat[0] > 0 else None
    return None


def two_sided(definition: NetworkDefinition) -> NetworkDefinition:
    """A network of one output z as one of the logits -z and z.

    A dense layer at the end, or a convolution of one pixel, gets a second row, so that what
    is known of such heads stays known.
    """
    shapes = layer_shapes(definition)
    nodes = [*definition.graph.nodes]
    number = definition.graph.heads[0][0]
    while nodes[number].op in _SAME:
        number = nodes[number].inputs[0][0]
    node = nodes[number]
    units = {"FullyConnected": "num_hidden", "Convolution": "num_filter"}.get(node.op)
    rows = [nodes[source].name for source, _ in node.inputs[1:]]
    readers = [s for n in nodes for s, _ in n.inputs]
    alone = all(readers.count(source) == 1 for source, _ in node.inputs[1:])
    parameters = definition.parameters
    if units and prod(shapes[node.name]) == 1 and alone and parameters.keys() >= {*rows}:
        sides = {name: _sides(parameters[name]) for name in rows}
        nodes[number] = replace(node, attrs={**node.attrs, units: "2"})
        head = number
        if len(shapes[node.name]) > 1:
            nodes.append(Node("Flatten", free_name("logits", nodes), {}, ((number, 0),)))
            head = len(nodes) - 1
    else:
        sides, z = {}, definition.graph.heads[0]
        if len(shapes[nodes[z[0]].name]) != 1:
            nodes.append(Node("Reshape", free_name("logit", nodes), {"shape": "(-1, 1)"}, (z,)))
            z = len(nodes) - 1, 0
        minus = len(nodes), 0
        nodes.append(Node("_mul_scalar", free_name("minus", nodes), {"scalar": "-1.0"}, (z,)))
        op, name, inputs, joined = _joined("sides", (minus, z))
        nodes.append(Node(op, free_name(name, nodes), joined, inputs))
        head = len(nodes) - 1
    graph = prune(Graph(tuple(nodes), ((head, 0),), definition.graph.version))
    return replace(definition, graph=graph, parameters={**parameters, **sides}, binary=True)


def _sides(value: F4) -> F4:
    """(1,...) -> (2,...): minus a row, and the row."""
    both: F4 = np.concatenate([-value, value])
    return both


def _joined(
    name: str, inputs: tuple[Entry, ...]
) -> tuple[str, str, tuple[Entry, ...], dict[str, str]]:
    """Vectors side by side, by the operator that oneDNN does not run."""
    return "_npi_concatenate", name, inputs, {"axis": "1", "num_args": str(len(inputs))}


def kind_of(node: Node) -> str:
    """An operator, or which activation it is."""
    return node.attrs.get("act_type", "") if node.op == "Activation" else node.op


def free_name(name: str, nodes: Iterable[Node]) -> str:
    """`name`, or with underscores the first that no node has."""
    taken = {node.name for node in nodes}
    while name in taken:
        name += "_"
    return name
