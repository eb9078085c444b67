"""Quantised files: QuantizeLinear and DequantizeLinear, QLinear operators, dynamic quantisation.

Weights are dequantised and activations are not rounded, so the network is computed, and has
a gradient, in floating point; or they are rounded, and gradients pass as if they were not.
Quantisers leave out a ReLU or ReLU6 where the range of the whole numbers does the same: there
that range is kept, as a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import conv, dense, elementwise, pool, shapes
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.fold import DTYPES, dequantized
from shardcam.engine.models.onnx.onnx_graph import Array, Known, Quantised, Tensor, Value
from shardcam.engine.models.onnx.products import product

REMARK = (
    "a quantised file: its weights are dequantised and its activations not rounded, so its "
    "logits differ a little from onnxruntime's"
)
ROUNDED = (
    "a quantised file: its weights are dequantised and its activations rounded, but for dynamic "
    "quantisation; gradients pass as if they were not"
)
_NEVER_NEGATIVE = ("softmax", "hard_sigmoid", "square", "sqrt", "exp", "abs", "relu")
# Operators that only move or select numbers, and so commute with scale and zero point.
MOVING = frozenset({
    "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity",
    "MaxPool", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample",
})  # fmt: skip


def quantize(call: Call) -> Quantised:
    """QuantizeLinear: nothing but the range is kept, and that only where it is an activation's."""
    call.ignore("saturate", "precision", "axis", "block_size")
    x, scale = call.tensor(), call.array(1)
    code = call.integer("output_dtype", 0)
    zero = call.array(2) if call.has(2) else np.zeros((), DTYPES.get(code, np.uint8))
    return _quantised(call, x, scale, zero)


def _quantised(call: Call, x: Tensor, scale: Array, zero: Array, part: str = "") -> Quantised:
    if not np.isfinite(scale).all() or scale.min(initial=1) <= 0 or zero.dtype.kind not in "iu":
        raise ModelError("its scale is no positive number, or its zero point no whole number")
    if scale.size > 1 and scale.size not in x.sizes:
        raise ModelError(f"a scale of {scale.shape} does not fit {x.sizes} for each image")
    call.build.quantised = True
    limits = np.iinfo(zero.dtype)
    if call.build.rounds and scale.size == zero.size == 1:
        return Quantised(_rounded(call, x, float(scale.item()), zero, part), scale, zero)
    rectifies = scale.size == 1 and (zero == limits.min).all()
    if rectifies and not _never_negative(call, x):
        high = float(scale.item()) * (limits.max - limits.min)
        x = call.emit("clip", [x], part, a_min=0.0, a_max=high)
    return Quantised(x, scale, zero)


def _rounded(call: Call, x: Tensor, scale: float, zero: Array, part: str) -> Tensor:
    """What is left of x as whole numbers; its gradient is that of the clip alone."""
    limits, middle = np.iinfo(zero.dtype), int(zero.item())
    low, high = (scale * (limit - middle) for limit in (limits.min, limits.max))
    x = call.emit("clip", [x], "clipped", a_min=low, a_max=high)
    steps = call.emit("_div_scalar", [x], "steps", scalar=scale)
    whole = call.emit("rint", [steps], "whole")
    real = call.emit("_mul_scalar", [whole], "rounded", scalar=scale)
    change = call.emit("elemwise_sub", [real, x], "change")
    held = call.emit("BlockGrad", [change], "held")
    return call.emit("broadcast_add", [x, held], part)


def _never_negative(call: Call, x: Tensor) -> bool:
    node = call.build.nodes[x.entry[0]]
    if node.op == "clip":
        return float(node.attrs["a_min"]) >= 0
    return node.op in _NEVER_NEGATIVE or node.attrs.get("act_type") in ("relu", "sigmoid")


def dequantize(call: Call) -> Value:
    call.ignore("axis", "block_size", "output_dtype")
    return _real(call, 0)


def _real(call: Call, index: int, axis: int = 0) -> Known | Tensor:
    """Input `index` in real numbers; its scale and zero point are the two inputs after it."""
    value, scale = call.value(index), call.array(index + 1)
    zero = call.optional_array(index + 2)
    if isinstance(value, Known):
        call.build.quantised = True
        call.build.pay(2 * value.constant.size)
        return Known.of(dequantized(value.constant, scale, zero, axis))
    whole = value if isinstance(value, Quantised) else call.tensor(index)
    return _scaled(call, whole, scale, np.zeros(1) if zero is None else zero, f"real{index}")


def _scaled(call: Call, value: Quantised | Tensor, scale: Array, zero: Array, part: str) -> Tensor:
    """(q - zero) * scale of the whole numbers q that `value` stands for."""
    if isinstance(value, Quantised):
        if np.array_equal(value.scale, scale) and np.array_equal(value.zero, zero):
            return value.tensor
        old, start, x = value.scale, value.zero, value.tensor
    else:
        old, start, x = np.ones(1), np.zeros(1), value
    if not all(array.size == 1 for array in (old, start, scale, zero)):
        raise ModelError("a scale for each channel of an activation is not supported")
    factor = float(scale.item()) / float(old.item())
    shift = (float(start.item()) - float(zero.item())) * float(scale.item())
    if factor != 1:
        x = call.emit("_mul_scalar", [x], part if shift == 0 else f"{part}_scaled", scalar=factor)
    return x if shift == 0 else call.emit("_plus_scalar", [x], part, scalar=shift)


def _result(call: Call, y: Tensor, index: int) -> Tensor | Quantised:
    """The result with the scale and zero point of inputs `index` and the next; real without."""
    if not call.has(index):
        return y
    zero = call.array(index + 1) if call.has(index + 1) else np.zeros((), np.uint8)
    return _quantised(call, y, call.array(index), zero, "range")


def qlinear_conv(call: Call) -> Tensor | Quantised:
    x, weight = _real(call, 0), _real(call, 3)
    inputs = (x, weight, _bias(call, 8, call.array(1) * call.array(4)))
    return _result(call, conv.conv(replace(call, inputs=inputs)), 6)


def qlinear_matmul(call: Call) -> Tensor | Quantised:
    a, b = _real(call, 0, axis=-2), _real(call, 3, axis=-1)
    return _result(call, product(call, a, b), 6)


def qgemm(call: Call) -> Tensor | Quantised:
    a, b = _real(call, 0), _real(call, 3, axis=0 if call.integer("transB", 0) else 1)
    scale = call.number("alpha", 1.0) * call.array(1) * call.array(4)
    inputs = (a, b, _bias(call, 6, scale))
    return _result(call, dense.gemm(replace(call, inputs=inputs)), 7)


def _bias(call: Call, index: int, scale: Array) -> Known | None:
    if not call.has(index):
        return None
    return Known.of((call.array(index) * scale.astype(np.float64)).astype(np.float32))


def conv_integer(call: Call) -> Tensor:
    """ConvInteger. Its numbers are whole only where its input's are."""
    inputs = (_steps(call, 0, 2, 0), _steps(call, 1, 3, 0))
    return conv.conv(replace(call, inputs=inputs))


def matmul_integer(call: Call) -> Tensor:
    return product(call, _steps(call, 0, 2, -2), _steps(call, 1, 3, -1))


def _steps(call: Call, index: int, zero_index: int, axis: int) -> Known | Tensor:
    """An input less its zero point, in steps of its scale."""
    value, zero, one = call.value(index), call.optional_array(zero_index), np.ones(1, np.float32)
    if isinstance(value, Known):
        call.build.quantised = True
        return Known.of(dequantized(value.constant, one, zero, axis))
    whole = value if isinstance(value, Quantised) else call.tensor(index)
    return _scaled(call, whole, one, np.zeros(1) if zero is None else zero, f"steps{index}")


def dynamic_quantize(call: Call) -> tuple[Value, ...]:
    """Scale and zero point of each image's own: one and nothing do as well, without rounding."""
    call.build.quantised = True
    one, zero = np.ones((), np.float32), np.zeros((), np.uint8)
    return Quantised(call.tensor(), one, zero), Known.of(one), Known.of(zero)


def dynamic_matmul(call: Call) -> Tensor:
    """DynamicQuantizeMatMul: A, B, scale and zero point of B, bias."""
    weight = dequantized(call.array(1), call.array(2), call.optional_array(3), -1)
    call.build.quantised = True
    return _plus(call, call.tensor(), Known.of(weight), 4)


def matmul_to_float(call: Call) -> Tensor:
    """MatMulIntegerToFloat: A, B, their scales, their zero points, bias."""
    order = (0, 2, 4, 1, 3, 5)
    given = (call.inputs[i] if i < len(call.inputs) else None for i in order)
    sorted_call = replace(call, inputs=tuple(given))
    a, b = _real(sorted_call, 0, axis=-2), _real(sorted_call, 3, axis=-1)
    return _plus(call, a, b, 6)


def _plus(call: Call, a: Known | Tensor, b: Known | Tensor, bias: int) -> Tensor:
    if not call.has(bias):
        return product(call, a, b)
    y = product(replace(call, name=f"{call.name}/product"), a, b)
    return elementwise.arithmetic(replace(call, inputs=(y, call.value(bias))), "Add")


def _arithmetic(op: str) -> Callable[[Call], Tensor | Quantised]:
    def rule(call: Call) -> Tensor | Quantised:
        inputs = (_real(call, 0), _real(call, 3))
        return _result(call, elementwise.arithmetic(replace(call, inputs=inputs), op), 6)

    return rule


def _of_one(rule: Callable[[Call], Tensor], op: str) -> Callable[[Call], Tensor | Quantised]:
    """A QLinear operator of one input."""

    def made(call: Call) -> Tensor | Quantised:
        call.must_be("channels_last", 0)
        opset = call.integer("opset", call.opset)
        kept: dict[str, Attribute] = {
            k: v for k, v in call.attributes.items() if k not in ("channels_last", "opset")
        }
        y = rule(replace(call, op=op, opset=opset, attributes=kept, inputs=(_real(call, 0),)))
        return _result(call, y, 3)

    return made


def qlinear_concat(call: Call) -> Tensor | Quantised:
    inputs = tuple(_real(call, i) for i in range(2, len(call.inputs), 3))
    return _result(call, shapes.concat(replace(call, inputs=inputs)), 0)


def moved(call: Call, rule: Callable[[Call], Value | tuple[Value, ...]]) -> tuple[Value, ...]:
    """A node that moves quantised numbers."""
    given = [v for v in call.inputs if isinstance(v, Quantised)]
    first = given[0]
    alike = all(
        np.array_equal(v.scale, first.scale) and np.array_equal(v.zero, first.zero) for v in given
    )
    if call.op not in MOVING and not (call.op in ("Concat", "Pad") and alike):
        raise ModelError("it computes with quantised numbers, which is not supported")
    inputs = [v.tensor if isinstance(v, Quantised) else v for v in call.inputs]
    if call.op == "Pad":
        inputs += [None] * (3 - len(inputs))
        filler = call.array(2) if call.has(2) else np.zeros(())
        inputs[2] = Known.of(dequantized(filler, first.scale, first.zero))
    made = rule(replace(call, inputs=tuple(inputs)))
    results = made if isinstance(made, tuple) else (made,)
    return tuple(replace(first, tensor=y) if isinstance(y, Tensor) else y for y in results)


BOTH = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
RULES: dict[str, Callable[[Call], Value | tuple[Value, ...]]] = {
    **BOTH, "QLinearConv": qlinear_conv, "QLinearMatMul": qlinear_matmul,
    "ConvInteger": conv_integer, "MatMulInteger": matmul_integer,
    "DynamicQuantizeLinear": dynamic_quantize,
}  # fmt: skip
MICROSOFT: dict[str, Callable[[Call], Value | tuple[Value, ...]]] = {
    **BOTH, "QGemm": qgemm, "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulIntegerToFloat": matmul_to_float, "QLinearConcat": qlinear_concat,
    "QLinearAdd": _arithmetic("Add"), "QLinearMul": _arithmetic("Mul"),
    "QLinearSigmoid": _of_one(elementwise.RULES["Sigmoid"], "Sigmoid"),
    "QLinearLeakyRelu": _of_one(elementwise.leaky_relu, "LeakyRelu"),
    "QLinearSoftmax": _of_one(dense.softmax, "Softmax"),
    "QLinearGlobalAveragePool": _of_one(pool.global_op, "GlobalAveragePool"),
    "QLinearAveragePool": _of_one(pool.average_pool, "AveragePool"),
}  # fmt: skip
