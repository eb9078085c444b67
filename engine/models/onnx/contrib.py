"""Operators of com.microsoft, which onnxruntime makes when it optimises a file.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import conv, dense, elementwise, norm
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor, Value
from shardcam.engine.models.onnx.products import product
from shardcam.engine.models.onnx.shapes import transpose


def fused_conv(call: Call) -> Tensor:
    """Conv, the sum with a tensor, and an activation."""
    activation = call.text("activation", "")
    numbers = _numbers(call, "activation_params")
    parameters = dict(zip(_PARAMETERS.get(activation, ()), numbers, strict=False))
    total = conv.conv(_part(call, "conv" if activation or call.has(3) else "", call.inputs[:3]))
    if call.has(3):
        total = elementwise.arithmetic(
            _part(call, "sum" if activation else "", (total, call.value(3))), "Add"
        )
    return _activated(call, activation, total, parameters)


def fused_gemm(call: Call) -> Tensor:
    """Gemm and an activation."""
    activation = call.text("activation", "")
    given = {key: f"activation_{key}" for key in ("alpha", "beta", "gamma")}
    parameters = {key: call.number(name) for key, name in given.items() if name in call.attributes}
    total = dense.gemm(_part(call, "gemm" if activation else "", call.inputs))
    return _activated(call, activation, total, parameters)


def fused_matmul(call: Call) -> Tensor:
    """MatMul of turned operands, scaled."""
    call.must_be("transBatchA", 0)
    call.must_be("transBatchB", 0)
    a, b = (
        _turned(call, call.plain(i), side) if call.integer(f"trans{side}", 0) else call.plain(i)
        for i, side in enumerate("AB")
    )
    alpha = call.number("alpha", 1.0)
    if alpha == 1:
        return product(call, a, b)
    y = product(_part(call, "product", ()), a, b)
    return call.emit("_mul_scalar", [y], scalar=alpha)


def _turned(call: Call, value: Known | Tensor, side: str) -> Known | Tensor:
    rank = value.rank if isinstance(value, Tensor) else value.constant.ndim
    order = (*range(rank - 2), rank - 1, rank - 2)
    if isinstance(value, Known):
        return Known.of(value.constant.transpose(order))
    return transpose(call, value, order, f"turned{side}")


def biased(activation: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
    """An activation of a sum with a bias, which may be left out."""

    def rule(call: Call) -> Tensor:
        if not call.has(1):
            return activation(call)
        total = elementwise.arithmetic(_part(call, "bias", call.inputs[:2]), "Add")
        return activation(replace(call, inputs=(total,)))

    return rule


def _gelu(kind: str) -> Callable[[Call], Tensor]:
    return lambda call: elementwise.gelu(replace(call, attributes={"approximate": kind}))


def quick_gelu(call: Call) -> Tensor:
    alpha = call.number("alpha", 1.702)
    return elementwise.swish(replace(call, attributes={"alpha": alpha}))


def skip_layer_norm(call: Call) -> tuple[Tensor, ...]:
    """LayerNormalization of a sum; the fourth output is the sum."""
    total = elementwise.arithmetic(_part(call, "sum", (call.value(0), call.value(1))), "Add")
    if call.has(4):
        total = elementwise.arithmetic(_part(call, "biased", (total, call.value(4))), "Add")
    attributes: dict[str, Attribute] = {"epsilon": call.number("epsilon", 1e-12), "axis": -1}
    inputs = (total, call.value(2), call.inputs[3] if call.has(3) else None)
    y = norm.layer_norm(replace(call, attributes=attributes, inputs=inputs, outputs=1))
    return (y, y, y, total) if call.outputs == 4 else (y,)


def zip_map(call: Call) -> Tensor:
    """Scores with the names of the classes: the scores."""
    call.ignore("classlabels_strings", "classlabels_int64s")
    return call.tensor()


def _part(call: Call, part: str, inputs: tuple[Value | None, ...]) -> Call:
    """A node that is a part of this one. What it does not read of the attributes stays unread."""
    return replace(call, name=f"{call.name}/{part}" if part else call.name, inputs=inputs)


def _activated(call: Call, activation: str, x: Tensor, parameters: dict[str, float]) -> Tensor:
    if not activation:
        return x
    if activation == "Clip":
        limits = [Known.of(np.array(parameters[k])) for k in ("min", "max") if k in parameters]
        return elementwise.clip(replace(call, inputs=(x, *limits), opset=13))
    if activation not in _PARAMETERS:
        raise ModelError(f"activation {activation!r} is not supported")
    attributes: dict[str, Attribute] = dict(parameters)
    made = replace(call, op=activation, inputs=(x,), attributes=attributes)
    return elementwise.RULES[activation](made)


def _numbers(call: Call, name: str) -> tuple[float, ...]:
    value = call.attributes.get(name, ())
    call.ignore(name)
    if not isinstance(value, tuple) or not all(isinstance(v, int | float) for v in value):
        raise ModelError(f"attribute {name} is {value!r}, not a list of numbers")
    return tuple(float(v) for v in value)


# The activations that are fused, and what their parameters are.
_PARAMETERS = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"), "Elu": ("alpha",),
    "HardSwish": (),
}  # fmt: skip

MICROSOFT: dict[str, Callable[[Call], Tensor | tuple[Tensor, ...]]] = {
    "FusedConv": fused_conv, "FusedGemm": fused_gemm, "FusedMatMul": fused_matmul,
    "Gelu": _gelu("none"), "BiasGelu": biased(_gelu("none")), "FastGelu": biased(_gelu("tanh")),
    "QuickGelu": quick_gelu, "SkipLayerNormalization": skip_layer_norm,
}  # fmt: skip
CLASSICAL = {"ZipMap": zip_map}
