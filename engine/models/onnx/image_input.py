"""What a file says of the input that takes images: its layout, its sizes and its numbers."""

from __future__ import annotations

from typing import Any

import onnx

from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import OneSize
from shardcam.engine.models.onnx.ends import CUT, shape_text

DEFAULT_SIZE = 224
MAX_SIDE = 2**14  # pixels

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_WHOLE = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_MOVING = (  # what may be done to whole numbers before they are made floats
    *("Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose"),
    "Unsqueeze",
)
_CHANNELS_FIRST = ("Conv", "BatchNormalization", "InstanceNormalization")


def declared_shape(value: Any) -> tuple[int | None, ...]:
    """The input's shape; None for an axis that the file leaves open."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in (*_FLOATS, *_WHOLE):
        known = tensor.elem_type in onnx.TensorProto.DataType.values()
        kind = (
            onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known else "an unknown type"
        )
        raise ModelError(f"input {value.name!r} takes {kind}; float, uint8, int32 or int64 can be")
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    if len(shape) != 4:
        raise ModelError(
            f"input {value.name!r} of {shape_text(shape)} does not take images, which are "
            f"(N,C,H,W) or (N,H,W,C); {CUT} where the images come"
        )
    return shape


def is_channels_last(shape: tuple[int | None, ...], reader: Any) -> bool:
    """Whether the last axis is the channels': by the first node, 3, square images, or size."""
    _, first, side, last = shape
    if last is None or (reader is not None and reader.op_type in _CHANNELS_FIRST):
        return False
    if 3 in (first, last) or first is None:
        return first != 3 and last <= 4
    if first != last and side in (first, last):
        return side == first
    return last < first


def fitting_side(declared: int | None, given: int | None) -> int:
    """A side of the images in pixels: what the file states, else what is asked for."""
    if declared is not None and given is not None and declared != given:
        raise OneSize(f"it takes images of {declared} pixels, not {given}: leave --image-size out")
    side = declared or given or DEFAULT_SIZE
    if not 0 < side <= MAX_SIDE:
        raise ModelError(f"images of {side} pixels are too large")
    return side


def takes_whole_numbers(graph: Any, value: Any) -> bool:
    """Whether the input is of whole numbers, which the file must make floats of.

    All is computed in floats here: what it computes before would be another thing.
    """
    if value.type.tensor_type.elem_type in _FLOATS:
        return False
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in {*node.input}:
            readers.setdefault(name, []).append(node)
    todo = [value.name]
    while todo:
        reading = [node for name in todo for node in readers.pop(name, ())]
        todo = []
        for node in reading:
            if node.op_type in _MOVING:
                todo += node.output
            elif node.op_type not in ("Cast", "CastLike", "Shape", "Size"):
                raise ModelError(
                    f"{node.op_type} node {node.name!r} computes in whole numbers; Cast the "
                    f"input {value.name!r} to float first"
                )
    return True
