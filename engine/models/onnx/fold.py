"""Constant folding: what a file computes from weights and shapes alone is computed once.

The reference evaluator of the onnx package does it, operator by operator.  A file is not
trusted, so the size of each result is bounded, and paid for out of the file's allowance, before
anything is computed; loops are not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axis_of
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.fold_bounds import (
    FOLD_FIRST,
    Arrays,
    given,
    pay,
    pay_product,
    spatial,
)
from shardcam.engine.models.onnx.onnx_graph import BATCHES, Array, Known, Tensor, View
from shardcam.engine.models.onnx.resize_axes import resized

_BFLOAT = 16
DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64, _BFLOAT: np.float32,
}  # fmt: skip
FLOATS = (1, 10, 11, _BFLOAT)  # ONNX's codes; all of them are float32 here
_IR_VERSION = 10


def fold(call: Call) -> tuple[Known, ...] | None:
    """Outputs of a node that reads only constants; None if it is another node.

    Raises
    ------
    ModelError
        The operands do not fit the operator, or the result would be too large.
    """
    if (
        call.op in ("Shape", "Size")
        and not call.domain
        and not isinstance(value := call.value(0), Known)
    ):
        return _shape_of(call, value if isinstance(value, Tensor | View) else value.tensor)
    if not all(value is None or isinstance(value, Known) for value in call.inputs):
        return None
    operands = [value.values if isinstance(value, Known) else None for value in call.inputs]
    same = all(pair is None or pair[0] is pair[1] for pair in operands)
    points = []
    for i in range(1 if same else len(BATCHES)):
        arrays = [None if pair is None else pair[i] for pair in operands]
        with np.errstate(all="ignore"):
            points.append(_rule(call)(call, arrays))
    return tuple(Known(pair) for pair in zip(points[0], points[-1], strict=True))


def _rule(call: Call) -> Callable[[Call, Arrays], list[Array]]:
    """Another domain's operator of the same name is another one, but for onnxruntime's."""
    ours = not call.domain or (call.domain, call.op) == ("com.microsoft", "DequantizeLinear")
    return _OWN.get(call.op, evaluated) if ours else evaluated


def _shape_of(call: Call, x: Tensor | View) -> tuple[Known]:
    batches = (1, 1) if call.fixed_batch == 1 else BATCHES
    first, second = (np.array(x.shape(batch), np.int64) for batch in batches)
    if call.op == "Size":
        return (Known((np.array(first.prod()), np.array(second.prod()))),)
    start, end = call.integer("start", 0), call.integer("end", x.rank)
    return (Known((first[start:end], second[start:end])),)


def evaluated(call: Call, arrays: Arrays) -> list[Array]:
    """The results of a node by onnx's reference evaluator, if they are not too large."""
    if call.domain:
        raise ModelError(f"this operator is not supported on constants; {FOLD_FIRST}")
    try:
        schema = onnx.defs.get_schema(call.op, call.opset, "")
    except onnx.defs.SchemaError:
        raise ModelError("this operator is not supported") from None
    unknown = sorted(set(call.attributes) - set(schema.attributes))
    if unknown:
        raise ModelError(f"attribute {unknown[0]} is not supported")
    call.ignore(*call.attributes)
    pay(call, arrays)
    return _run(call, _node(call, arrays, max(call.outputs, schema.min_output)), arrays)


def _node(call: Call, arrays: Arrays, outputs: int) -> onnx.NodeProto:
    names = ["" if array is None else f"i{i}" for i, array in enumerate(arrays)]
    node = helper.make_node(call.op, names, [f"o{i}" for i in range(outputs)])
    for key, value in call.attributes.items():
        if isinstance(value, np.ndarray) or value != ():
            node.attribute.append(helper.make_attribute(key, _written(value)))
    return node


def _written(value: Attribute) -> object:
    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def _type_of(array: Array) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _run(call: Call, node: onnx.NodeProto, arrays: Arrays) -> list[Array]:
    named = {f"i{i}": array for i, array in enumerate(arrays) if array is not None}
    graph = helper.make_graph(
        [node],
        "fold",
        [helper.make_value_info(name, _type_of(array)) for name, array in named.items()],
        [helper.make_tensor_value_info(name, 0, None) for name in node.output],
    )
    ids = [helper.make_opsetid("", call.opset)]
    model = helper.make_model(graph, opset_imports=ids, ir_version=_IR_VERSION)
    try:
        results = ReferenceEvaluator(model).run(None, named)
    except Exception as error:  # whatever its hundreds of operators make of damaged operands
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ModelError(f"its constant inputs are not valid: {reason[:200]}") from error
    found = [np.asarray(result) for result in results]
    if any(a.dtype.kind not in "biuf" for a in found):
        raise ModelError("its result is not made of numbers")
    return found


def _first(call: Call, arrays: Arrays) -> list[Array]:
    """Identity, and Dropout at inference."""
    call.ignore("ratio", "seed")
    return [given(arrays, 0)]


def _cast(call: Call, arrays: Arrays) -> list[Array]:
    call.ignore("saturate", "round_mode")
    code = call.integer("to")
    if code not in DTYPES:
        raise ModelError(f"data type {code} is not supported")
    return [given(arrays, 0).astype(DTYPES[code])]


def _cast_like(call: Call, arrays: Arrays) -> list[Array]:
    call.ignore("saturate", "round_mode")
    return [given(arrays, 0).astype(given(arrays, 1).dtype)]


def _expand(call: Call, arrays: Arrays) -> list[Array]:
    """A view: the evaluator would multiply by ones."""
    pay(call, arrays)
    x, shape = given(arrays, 0), given(arrays, 1)
    return [np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))]


def _batch_norm(call: Call, arrays: Arrays) -> list[Array]:
    """Before opset 14 the evaluator takes it to be in training mode."""
    if call.opset >= 14:
        return evaluated(call, arrays)
    call.must_be("spatial", 1)
    kept = {k: v for k, v in call.attributes.items() if k in ("epsilon", "momentum")}
    call.ignore(*kept)
    return evaluated(replace(call, opset=14, attributes=kept), arrays)


def _softmax(call: Call, arrays: Arrays) -> list[Array]:
    """Before opset 13 over all axes from one on; the evaluator knows the later rule only."""
    if call.opset >= 13:
        return evaluated(call, arrays)
    x = given(arrays, 0)
    axis = axis_of(call.integer("axis", 1), x.ndim)
    rows = x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))
    (result,) = evaluated(replace(call, opset=13, attributes={"axis": 1}), [rows])
    return [result.reshape(x.shape)]


def _or_equal(call: Call, arrays: Arrays) -> list[Array]:
    """These two are defined by others, and have no shape inference."""
    (more,) = evaluated(replace(call, op=call.op.removesuffix("OrEqual")), arrays)
    (same,) = evaluated(replace(call, op="Equal"), arrays)
    return [more | same]


def _resized(call: Call, arrays: Arrays) -> list[Array]:
    """By rows and columns, where that is all; the evaluator looks at each number by itself.

    An empty input means none; before opset 11 pixels lay elsewhere.
    """
    try:
        return [resized(call, given(arrays, 0))]
    except ModelError:
        if call.opset < 11:
            raise
    return evaluated(call, [None if a is None or not a.size else a for a in arrays])


def _conv(call: Call, arrays: Arrays) -> list[Array]:
    """A convolution of any number of axes, place by place of its kernel."""
    x, weight = given(arrays, 0), given(arrays, 1)
    count, groups = x.ndim - 2, call.integer("group", 1)
    call.must_be("auto_pad", "NOTSET")
    kernel = call.integers("kernel_shape", weight.shape[2:])
    stride, dilation = (call.integers(key, (1,) * count) for key in ("strides", "dilations"))
    pads = call.integers("pads", (0,) * 2 * count)
    sizes = spatial(x.shape[2:], kernel, stride, dilation, pads)
    if kernel != weight.shape[2:] or groups < 1 or x.shape[1] != groups * weight.shape[1]:
        raise ModelError(f"a weight of {weight.shape} does not fit {x.shape}")
    pay_product(call, x.size * 2, len(x) * len(weight) * prod(sizes), prod(weight.shape[1:]))
    around = list(zip(pads[:count], pads[count:], strict=True))
    padded = np.pad(x, [(0, 0), (0, 0), *around])
    images = padded.reshape(len(x), groups, weight.shape[1], *padded.shape[2:])
    grouped = weight.reshape(groups, -1, weight.shape[1], *kernel)
    y = np.zeros((len(x), groups, grouped.shape[1], *sizes), np.float32)
    for place in np.ndindex(*kernel):
        windows = zip(place, dilation, sizes, stride, strict=True)
        part = (slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in windows)
        of_weight: Any = (Ellipsis, *place)
        of_images: Any = (Ellipsis, *part)
        y += np.einsum("goc,ngc...->ngo...", grouped[of_weight], images[of_images])
    bias = arrays[2] if len(arrays) > 2 else None
    result: Array = y.reshape(len(x), len(weight), *sizes)
    return [result if bias is None else result + bias.reshape(-1, *(1,) * count)]


_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scatter_nd(call: Call, arrays: Arrays) -> list[Array]:
    """All places at once, where the evaluator takes one after the other."""
    reduction = call.text("reduction", "none")
    if reduction not in ("none", *_REDUCTIONS):
        raise ModelError(f"reduction {reduction[:100]!r} is not supported")
    pay(call, arrays)
    result, updates = given(arrays, 0).copy(), given(arrays, 2)
    try:
        places = tuple(np.moveaxis(given(arrays, 1), -1, 0))
        if reduction == "none":
            result[places] = updates
        else:
            _REDUCTIONS[reduction].at(result, places, updates)
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(f"its constant inputs are not valid: {error}") from error
    return [result]


def _dequantize(call: Call, arrays: Arrays) -> list[Array]:
    call.ignore("output_dtype")
    x, scale = given(arrays, 0), given(arrays, 1)
    call.build.pay(2 * x.size)
    zero = arrays[2] if len(arrays) > 2 else None
    call.build.quantised = True
    return [dequantized(x, scale, zero, call.integer("axis", 1), call.integer("block_size", 0))]


def dequantized(x: Array, scale: Array, zero: Array | None, axis: int = 1, block: int = 0) -> Array:
    """The float32 numbers that quantised ones stand for: (x - zero) * scale.

    `scale` and `zero` are one number each, one for each place along `axis`, or one for each
    `block` of places.
    """
    wide = np.float64 if x.itemsize > 2 else np.float32
    whole: Array = x.astype(wide)
    if zero is not None:
        whole = whole - _along(x, zero.astype(wide), axis, block)
    real: Array = whole * _along(x, scale.astype(wide), axis, block)
    return real.astype(np.float32)


def _along(x: Array, value: Array, axis: int, block: int) -> Array:
    """`value` in a shape that broadcasts along an axis of `x`."""
    if value.size == 1:
        return value.reshape(())
    axis = axis_of(axis, x.ndim)
    if block:
        return np.repeat(value, block, axis).take(range(x.shape[axis]), axis)
    if value.shape != (x.shape[axis],):
        raise ModelError(f"a scale of {value.shape} does not fit {x.shape}")
    return value.reshape(-1, *(1 for _ in x.shape[axis + 1 :]))


# Where the evaluator would be wrong, or slow. bfloat16 is float32 here.
_OWN: dict[str, Callable[[Call, Arrays], list[Array]]] = {
    "Identity": _first, "Dropout": _first, "Expand": _expand, "Cast": _cast, "CastLike": _cast_like,
    "BatchNormalization": _batch_norm, "Conv": _conv, "DequantizeLinear": _dequantize,
    "GreaterOrEqual": _or_equal, "LessOrEqual": _or_equal, "Resize": _resized,
    "ScatterND": _scatter_nd,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
}  # fmt: skip
