"""Signed values moved by a constant, so that int8 takes them as unsigned ones.

oneDNN 2.4 multiplies signed inputs by kernels that take twice as long as those for unsigned ones,
and MXNet adds signed to unsigned values as if both were signed, so that half of the range is lost.
Where only convolutions of one pixel and sums read what a convolution computes without an
activation, each of its channels is moved by a constant, and the next biases take that back: the
network computes the same. A ReLU, which oneDNN fuses, then tells MXNet that nothing is negative.
All channels share one scale, so the constants also put the range of each into the middle of it.
"""

from __future__ import annotations

import base64
from ast import literal_eval
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import mxnet as mx
import numpy as np

from shardcam.engine.models.bound_program import Program
from shardcam.engine.models.fused_graph import is_rectifier
from shardcam.engine.models.graph import VARIABLE, Graph, Rewriting
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.models.weight_rounding import nearest
from shardcam.engine.types import F4

_MOVED = "_moved"  # how the names of what is added end


def movable(program: Program, written: Collection[str]) -> list[str]:
    """Names of the convolutions and sums whose outputs can be moved, of those `written`.

    The others are fused into what follows them.
    """
    moves = _Moves(program, written)
    found = moves.found
    while (kept := {name: n for name, n in found.items() if moves.fits(n, found)}) != found:
        found = kept
    return [*found]


def moved(program: Program, shifts: Mapping[str, F4]) -> Program:
    """The same program with the outputs of some operators moved up by (C,) `shifts`.

    The biases take back what int8 makes of it: weights are counted as they are rounded.
    """
    return _Moves(program, shifts).applied(shifts) if shifts else program


def in_the_middle(lowest: F4, highest: F4) -> tuple[F4, float]:
    """What moves the ranges of (C,) channels into the middle of the widest, and how wide it is."""
    largest = max(np.abs(lowest).max(), np.abs(highest).max())
    width = max((highest - lowest).max(), largest / 127) or 1  # constants have a scale, too
    shift: F4 = (width - lowest - highest) / 2
    return shift, float(width)


def as_text(shift: F4) -> str:
    """A shift, to be stored."""
    return base64.b64encode(shift.astype("<f4").tobytes()).decode()


def from_text(text: str) -> F4:
    """What `as_text` wrote; ValueError if it is something else."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


class _Moves:
    """Which outputs can be moved, and what has to change for it."""

    def __init__(self, program: Program, names: Collection[str]) -> None:
        self._program, self._names = program, {*names}
        self._graph = graph = parse(program.symbol.tojson())
        self._reads = Counter(entry for node in graph.nodes for entry in node.inputs)
        self._reads.update(graph.heads)
        self._readers: list[list[int]] = [[] for _ in graph.nodes]
        for number, node in enumerate(graph.nodes):
            for source, _ in node.inputs:
                self._readers[source].append(number)
        self.found = {
            node.name: number
            for number, node in enumerate(graph.nodes)
            if node.name in self._names and self._can_move(number)
        }

    def _can_move(self, number: int) -> bool:
        readers = self._readers[number]
        return (
            self._adds_to(number) is not None
            and len(readers) == self._reads[number, 0] > 0
            and all(self._takes_back(reader, number) is not None for reader in readers)
        )

    def fits(self, number: int, found: Mapping[str, int]) -> bool:
        """Whether sums have terms and values of one kind: MXNet takes both as what the term is."""
        nodes, unsigned = self._graph.nodes, {*found.values()}
        sums = [reader for reader in self._readers[number] if nodes[reader].op == "elemwise_add"]
        fits = all(reader in unsigned or self._is_rectified(reader) for reader in sums)
        if nodes[number].op == "elemwise_add":
            terms = {source for source, _ in nodes[number].inputs} - {self._adds_to(number)}
            fits &= all(term in unsigned or self._is_unsigned(term) for term in terms)
        return fits

    def _is_rectified(self, number: int) -> bool:
        """Whether a sum is fused with what makes its negative values 0."""
        nodes, last = self._graph.nodes, self._readers[number][0]
        fused = nodes[number].name not in self._names and nodes[last].name in self._names
        return fused and self._is_unsigned(last)

    def _is_unsigned(self, number: int) -> bool:
        node = self._graph.nodes[number]
        if node.op == "Pooling":
            return self._is_unsigned(node.inputs[0][0])
        return is_rectifier(node.op, node.attrs)

    def _adds_to(self, number: int) -> int | None:
        """The convolution whose bias is added to an output: itself, or what a sum is fused with."""
        node = self._graph.nodes[number]
        if node.op != "elemwise_add":
            return number if self._is_convolution(number) else None
        for source, _ in node.inputs:
            alone = (
                self._reads[source, 0] == 1 and self._graph.nodes[source].name not in self._names
            )
            if alone and self._is_convolution(source):
                return source
        return None

    def _takes_back(self, reader: int, source: int) -> int | None:
        """The convolution whose bias makes good that an input of a reader is moved."""
        node = self._graph.nodes[reader]
        if node.op == "elemwise_add":
            return self._adds_to(reader)
        attrs = node.attrs
        plain = self._is_convolution(reader) and node.inputs[0] == (source, 0)
        if not plain or attrs.get("num_group", "1") != "1":
            return None
        kernel, pad = literal_eval(attrs["kernel"]), literal_eval(attrs.get("pad", "()"))
        return reader if {*kernel} == {1} and not any(pad) else None

    def _is_convolution(self, number: int) -> bool:
        """Of images, with parameters that are its own."""
        node = self._graph.nodes[number]
        known = self._program.arguments.keys()
        return (
            node.op == "Convolution"
            and node.attrs["kernel"].count(",") == 1
            and not node.attrs.get("layout", "None").endswith("C")
            and all(
                self._reads[entry] == 1 and self._graph.nodes[entry[0]].name in known
                for entry in node.inputs[1:]
            )
        )

    def applied(self, shifts: Mapping[str, F4]) -> Program:
        added: dict[int, F4] = {}
        arguments = dict(self._program.arguments)
        nodes = self._graph.nodes

        def add(number: int | None, value: F4) -> None:
            assert number is not None
            added[number] = added.get(number, np.float32(0)) + value

        for name, number in self.found.items():
            shift = shifts[name]
            add(self._adds_to(number), shift)
            for reader in self._readers[number]:
                if nodes[reader].op == "elemwise_add":
                    add(self._adds_to(reader), -shift)
                else:
                    weight = arguments[nodes[nodes[reader].inputs[1][0]].name].asnumpy()
                    add(reader, -nearest(weight)[:, :, 0, 0] @ shift)
        for number in [*added]:
            if len(nodes[number].inputs) > 2:
                bias = nodes[nodes[number].inputs[2][0]].name
                value = arguments[bias].asnumpy() + added.pop(number)
                arguments[bias] = mx.nd.array(value, self._program.device)
        biases = {f"{nodes[number].name}{_MOVED}_bias": value for number, value in added.items()}
        arguments |= {name: mx.nd.array(v, self._program.device) for name, v in biases.items()}
        symbol = symbol_of(self._rewritten({*added}))
        return replace(self._program, symbol=symbol, arguments=arguments)

    def _rewritten(self, biased: set[int]) -> Graph:
        """With a ReLU behind each output that is moved, and biases of the convolutions `biased`."""
        new = Rewriting(self._graph)
        for number, node in new.nodes():
            if number in biased:
                inputs = *node.inputs, new.add(VARIABLE, f"{node.name}{_MOVED}_bias", {})
                node = replace(node, attrs=node.attrs | {"no_bias": "False"}, inputs=inputs)
            x = new.write(node)
            if node.name in self.found:
                new.add("Activation", f"{node.name}{_MOVED}", {"act_type": "relu"}, x)
        return new.graph()
