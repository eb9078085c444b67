"""ONNX files, opset 9 and later, as MXNet graphs.

The file is data and is not trusted: every array is checked against the bytes there
are, every shape is inferred before it is used, and what is not understood is refused
by name.  Nothing is guessed, except the preprocessing, of which ONNX says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NetworkDefinition,
    open_size,
)
from shardcam.engine.models.graph import VARIABLE, Entry, Graph, inference_form
from shardcam.engine.models.model_files import read_model_file
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.onnx_graph import Builder, Known, Tensor, Value
from shardcam.engine.models.onnx.ops import KNOWN, translate
from shardcam.engine.models.onnx.shapes import reshape, transpose
from shardcam.engine.models.onnx.weights import TensorReader
from shardcam.engine.types import Preprocessing

DEFAULT_SIZE = 224
MAX_SIDE = 2**14
OLDEST_OPSET = 9

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
# What arithmetic on a damaged file's own numbers can raise.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
_SAME_ORDER = ("Reshape", "Flatten")


def load_onnx(path: Path, image_size: int | None = None) -> NetworkDefinition:
    """Read a network from an ONNX file.

    Its input becomes (N,3,H,W), whatever the layout in the file; a Softmax at its end
    is left out.  The preprocessing is the ImageNet convention: an assumption.

    Parameters
    ----------
    path
        The file. Weights may lie in further files of the same directory.
    image_size
        Height and width where the file leaves them open; 224 by default.

    Raises
    ------
    ModelError
        The file is missing or damaged, contradicts `image_size`, or holds something that
        is not understood.
    """
    data = read_model_file(path)
    try:
        return _Import(path, _parse(data)).network(image_size)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _parse(data: bytes) -> Any:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own class, which has no types
        raise ModelError(f"not an ONNX file: {error}") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError("not an ONNX file: it contains no network")
    return model


class _Import:
    """One file on its way to a network definition."""

    def __init__(self, path: Path, model: Any) -> None:
        if len(model.graph.sparse_initializer):
            raise ModelError("sparse weights are not supported")
        self._path, self._graph = path, model.graph
        self._opset = _opset_of(model)
        self._reader = TensorReader(path.parent)
        self._build = Builder()
        self._values: dict[str, Value] = {}
        self._batch: int | None = None
        self._remarks: tuple[str, ...] = ()

    def network(self, image_size: int | None) -> NetworkDefinition:
        for proto in self._graph.initializer:
            self._define(proto.name, Known.of(self._reader.read(proto), proto.name))
        image = self._input(image_size)
        for number, node in enumerate(self._graph.node):
            self._add(node, number)
        logits = self._logits()
        graph = inference_form(Graph(tuple(self._build.nodes), (logits,)))
        _, height, width = image.sizes
        used = {node.name for node in graph.nodes if node.op == VARIABLE}
        return NetworkDefinition(
            name=self._path.stem,
            graph=graph,
            parameters={k: v for k, v in self._build.parameters.items() if k in used},
            preprocessing=Preprocessing(height, width, IMAGENET_MEAN, IMAGENET_STD),
            input_name=self._build.nodes[image.entry[0]].name,
            assumed=True,
            remarks=self._remarks,
        )

    def _input(self, image_size: int | None) -> Tensor:
        """The one input that takes images; the file may have the channels last."""
        inputs = [i for i in self._graph.input if i.name not in self._values]
        if len(inputs) != 1:
            names = ", ".join(repr(i.name) for i in inputs[:5])
            raise ModelError(f"it has {len(inputs)} inputs without weights ({names}), not one")
        shape = _declared_shape(inputs[0])
        last = shape[1] != 3 and shape[3] == 3
        if not last and shape[1] != 3:
            raise ModelError(f"input {inputs[0].name!r} of {_text(shape)} does not have 3 channels")
        sides = shape[1:3] if last else shape[2:4]
        height, width = (_side(side, image_size) for side in sides)
        if image_size is None and None in sides:
            self._remarks = (open_size(DEFAULT_SIZE),)
        image = self._build.input(inputs[0].name, (3, height, width))
        self._batch = shape[0]
        call = Call("Transpose", f"{inputs[0].name}/channels_last", 0, (), 1, {}, self._build)
        self._define(inputs[0].name, transpose(call, image, (0, 2, 3, 1)) if last else image)
        return image

    def _add(self, node: Any, number: int) -> None:
        name = node.name or (node.output[0] if node.output else "") or f"{node.op_type}_{number}"
        try:
            if node.domain not in ("", "ai.onnx"):
                raise ModelError(f"operators of {node.domain!r} are not supported")
            outputs = self._outputs(node, name)
            for output, value in zip(node.output, outputs, strict=False):
                self._define(output, value)
        except (ModelError, *_MALFORMED) as error:
            reason = error if isinstance(error, ModelError) else f"it is malformed: {error!r}"
            where = f"{node.op_type} node {name!r} (opset {self._opset})"
            raise ModelError(f"{where}: {reason}") from error

    def _outputs(self, node: Any, name: str) -> tuple[Value, ...]:
        if node.op_type not in KNOWN:
            raise ModelError("this operator is not supported")
        missing = [i for i in node.input if i and i not in self._values]
        if missing:
            raise ModelError(f"its input {missing[0]!r} is not defined before it")
        attributes = {a.name: self._attribute(a) for a in node.attribute}
        if node.op_type == "Constant":
            return (_constant(attributes),)
        inputs = tuple(self._values[i] if i else None for i in node.input)
        wanted = max((i for i, o in enumerate(node.output, 1) if o), default=0)
        call = Call(node.op_type, name, self._opset, inputs, wanted, attributes, self._build)
        call.fixed_batch = self._batch
        outputs = translate(call)
        if len(outputs) < wanted and node.op_type != "Dropout":
            raise ModelError(f"only {len(outputs)} of its {wanted} outputs are supported")
        return outputs

    def _attribute(self, proto: Any) -> Attribute:
        kinds = onnx.AttributeProto
        if proto.type == kinds.TENSOR:
            return self._reader.read(proto.t)
        if proto.type not in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS):
            raise ModelError(f"attribute {proto.name} is of a kind that is not supported")
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value if isinstance(value, int | float) else tuple(value)

    def _define(self, name: str, value: Value) -> None:
        if name and name in self._values:
            raise ModelError(f"{name!r} is defined twice")
        self._values[name] = value

    def _logits(self) -> Entry:
        """The one output as (N,classes), before a softmax at its end."""
        names = [o.name for o in self._graph.output]
        if len(names) != 1:
            raise ModelError(f"it has {len(names)} outputs {names[:5]}, not one")
        value = self._values.get(names[0])
        if not isinstance(value, Tensor):
            raise ModelError(f"output {names[0]!r} does not depend on the images")
        before = self._before_softmax(value)
        classes = [n for n in value.sizes if n != 1] or [1]
        if len(classes) != 1 or value.multiple != 1 or value.rank < 2:
            raise ModelError(
                f"output {names[0]!r} of {value.sizes} for each image is not a vector of logits"
            )
        call = Call("Output", "logits", self._opset, (), 1, {}, self._build)
        return reshape(call, before, 1, (classes[0],)).entry

    def _before_softmax(self, output: Tensor) -> Tensor:
        """`output`, or what its last softmax reads, if nothing but a reshape comes between."""
        tensor = output
        while (node := self._build.nodes[tensor.entry[0]]).op in _SAME_ORDER:
            source = self._build.source(tensor, node.op)
            if source is None:
                return output
            tensor = source[1]
        if node.op not in ("softmax", "log_softmax"):
            return output
        source = self._build.source(tensor, node.op)
        axis = int(node.attrs["axis"])
        others = [n for i, n in enumerate(tensor.sizes, 1) if i != axis]
        return source[1] if source and all(n == 1 for n in others) else output


def _opset_of(model: Any) -> int:
    newest = onnx.defs.onnx_opset_version()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(f"opset {opset} is not supported; {OLDEST_OPSET} to {newest} are")
    return int(opset)


def _declared_shape(value: Any) -> tuple[int | None, ...]:
    """The input's shape; None for an axis that the file leaves open."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in _FLOATS:
        raise ModelError(f"input {value.name!r} does not take floating-point numbers")
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    if len(shape) != 4:
        raise ModelError(f"input {value.name!r} of {_text(shape)} does not take images")
    return shape


def _side(declared: int | None, image_size: int | None) -> int:
    if declared is not None and image_size is not None and declared != image_size:
        raise ModelError(f"it takes images of {declared} pixels, not {image_size}")
    side = declared or image_size or DEFAULT_SIZE
    if not 0 < side <= MAX_SIDE:
        raise ModelError(f"images of {side} pixels are too large")
    return side


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ",".join("?" if n is None else str(n) for n in shape) + ")"


def _constant(attributes: dict[str, Attribute]) -> Known:
    if len(attributes) != 1:
        raise ModelError("it needs one value")
    ((name, value),) = attributes.items()
    dtypes = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    if name != "value" and name not in dtypes:
        raise ModelError(f"attribute {name} is not supported")
    return Known.of(np.asarray(value, dtypes.get(name)))
