"""The nodes of an ONNX graph, translated one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import OneSize
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.ends import CUT
from shardcam.engine.models.onnx.node_order import ordered, read_by
from shardcam.engine.models.onnx.one_image import BAKED
from shardcam.engine.models.onnx.onnx_graph import Builder, Known, Value
from shardcam.engine.models.onnx.ops import ADVICE, translate
from shardcam.engine.models.onnx.weights import TensorReader

OTHER_SIZE = (
    "the file leaves the input's size open, and --image-size {} was taken: it may need another "
    "(--image-size HEIGHT,WIDTH)"
)
# What arithmetic on a damaged file's own numbers can raise.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)


class Translation:
    """A graph of a file on its way to MXNet's: its values by name, and its nodes one by one.

    Attributes
    ----------
    values
        What has been made so far.
    batch
        Images that the file is written for; None: any number.
    taken_size
        Size of the input, where neither the file nor the user says which.
    baked
        The batch is open, and what failed would not fail for a batch of one.
    """

    def __init__(self, reader: TensorReader, build: Builder, opset: int) -> None:
        self._reader, self._build, self._opset = reader, build, opset
        self.values: dict[str, Value] = {}
        self.batch: int | None = None
        self.taken_size = ""
        self.baked = False

    def define(self, name: str, value: Value) -> None:
        """Give a value its name."""
        if name and name in self.values:
            raise ModelError(f"{name!r} is defined twice")
        self.values[name] = value
        if isinstance(value, Known):
            self._build.room.take(value.values)

    def add_needed(self, nodes: Sequence[Any], wanted: Sequence[str]) -> None:
        """Translate the nodes that the values in `wanted` need."""
        order = ordered(nodes, wanted, self.values)
        readers = Counter([*wanted, *(name for i in order for name in read_by(nodes[i]))])
        made = {name for i in order for name in nodes[i].output}
        for number in order:
            self._add(nodes[number], number)
            for name in read_by(nodes[number]):
                readers[name] -= 1
                value = self.values.get(name)
                if not readers[name] and name in made and isinstance(value, Known):
                    del self.values[name]  # standardised weights would fill the memory
                    self._build.room.give_back(value.values)

    def _add(self, node: Any, number: int) -> None:
        name = node.name or (node.output[0] if node.output else "") or f"{node.op_type}_{number}"
        try:
            outputs = self._outputs(node, name)
            for output, value in zip(node.output, outputs, strict=False):
                self.define(output, value)
        except (ModelError, *_MALFORMED) as error:
            known, misfit = isinstance(error, ModelError), False
            reason = str(error) if known else f"it is malformed: {repr(error)[:200]}"
            if known and not any(way in reason for way in ("--output", "ORT_ENABLE", CUT)):
                misfit = bool(self.taken_size) and "supported" not in reason
                reason += f"; {OTHER_SIZE.format(self.taken_size) if misfit else ADVICE}"
            self.baked |= self.batch is None and node.op_type in BAKED
            where = f"{node.op_type} node {name!r} (opset {self._opset})"
            raise (OneSize if misfit else ModelError)(f"{where}: {reason}") from error

    def _outputs(self, node: Any, name: str) -> tuple[Value, ...]:
        missing = [i for i in node.input if i and i not in self.values]
        if missing:
            raise ModelError(
                f"its input {missing[0]!r} comes from nowhere: no weight, input or node is it"
            )
        if node.op_type in ("Loop", "Scan"):
            raise ModelError(f"loops are not supported; {CUT} before or behind it")
        if node.op_type in ("LSTM", "GRU", "RNN"):
            raise ModelError(
                "recurrent layers are not supported; --output NAME takes a value before the first "
                f"of them, or {CUT} there"
            )
        if node.op_type == "If" and node.domain in ("", "ai.onnx"):
            return self._branch(node)
        attributes = {a.name: self._attribute(a) for a in node.attribute}
        if len(attributes) < len(node.attribute):
            raise ModelError("one of its attributes is given twice")
        if node.op_type == "Constant":
            return (_constant(attributes),)
        inputs = tuple(self.values[i] if i else None for i in node.input)
        wanted = max((i for i, o in enumerate(node.output, 1) if o), default=0)
        call = Call(node.op_type, name, self._opset, inputs, wanted, attributes, self._build)
        call.domain = "" if node.domain == "ai.onnx" else node.domain
        call.fixed_batch = self.batch
        outputs = translate(call)
        if len(outputs) < wanted and node.op_type != "Dropout":
            raise ModelError(f"only {len(outputs)} of its {wanted} outputs are supported")
        return outputs

    def _branch(self, node: Any) -> tuple[Value, ...]:
        """What the branch of an If computes that is always taken."""
        condition = self.values[node.input[0]]
        if not isinstance(condition, Known):
            raise ModelError("its condition depends on the images")
        if condition.constant.size != 1:
            raise ModelError("its condition is not one truth value")
        taken = "then_branch" if condition.constant.item() else "else_branch"
        graph = next((a.g for a in node.attribute if a.name == taken), None)
        if graph is None:
            raise ModelError(f"its {taken} is missing")
        if len(graph.output) != len(node.output):
            raise ModelError(f"its {taken} has {len(graph.output)} outputs, not {len(node.output)}")
        around = self.values
        self.values = dict(around)
        for proto in graph.initializer:
            self.define(proto.name, Known.of(self._reader.read(proto), proto.name))
        names = [output.name for output in graph.output]
        self.add_needed(graph.node, names)
        inside, self.values = self.values, around
        for name in inside.keys() - around.keys():
            if isinstance(value := inside[name], Known):
                self._build.room.give_back(value.values)
        return tuple(inside[name] for name in names)

    def _attribute(self, proto: Any) -> Attribute:
        kinds = onnx.AttributeProto
        if proto.ref_attr_name:
            raise ModelError(f"attribute {proto.name} is a function's, but the node is in none")
        if proto.type == kinds.TENSOR:
            return self._reader.read(proto.t)
        plain = (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS, kinds.STRINGS)
        if proto.type not in plain:
            raise ModelError(f"attribute {proto.name} is of a kind that is not supported")
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if proto.type == kinds.STRINGS:
            return tuple(text.decode("utf-8", "replace") for text in value)
        return value if isinstance(value, int | float) else tuple(value)


def _constant(attributes: dict[str, Attribute]) -> Known:
    if len(attributes) != 1:
        raise ModelError("it needs one value")
    ((name, value),) = attributes.items()
    dtypes = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    if name != "value" and name not in dtypes:
        raise ModelError(f"attribute {name} is not supported")
    return Known.of(np.asarray(value, dtypes.get(name)))
