"""Activations, and arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.gelu import gelu_input
from shardcam.engine.models.onnx.onnx_graph import Array, Known, Tensor, Weight

Rule = Callable[[Call], Tensor]


def _activation(kind: str) -> Rule:
    return lambda call: call.emit("Activation", [call.tensor()], act_type=kind)


def _unary(op: str) -> Rule:
    return lambda call: call.emit(op, [call.tensor()])


def leaky_relu(call: Call) -> Tensor:
    slope = call.number("alpha", 0.01)
    return call.emit("LeakyReLU", [call.tensor()], act_type="leaky", slope=slope)


def elu(call: Call) -> Tensor:
    slope = call.number("alpha", 1.0)
    return call.emit("LeakyReLU", [call.tensor()], act_type="elu", slope=slope)


def prelu(call: Call) -> Tensor:
    """PRelu: one slope for each channel, or any other shape by two rectifications."""
    x, slope = call.tensor(), call.array(1)
    shape = (1,) * (x.rank - slope.ndim) + slope.shape
    if x.rank > 1 and shape == (1, x.sizes[0], *(1 for _ in x.sizes[1:])):
        gamma = call.parameter("slope", slope.reshape(-1))
        return call.emit("LeakyReLU", [x, gamma], act_type="prelu")
    positive = call.emit("Activation", [x], "positive", act_type="relu")
    negative = call.emit("_minimum_scalar", [x], "negative", scalar=0.0)
    scaled = _with_constant(call, "Mul", negative, slope, constant_first=False, part="scaled")
    return call.emit("elemwise_add", [positive, scaled])


def clip(call: Call) -> Tensor:
    """Clip at one end or both."""
    x = call.tensor()
    if call.opset < 11:
        low = call.number("min", float("-inf"))
        high = call.number("max", float("inf"))
    else:
        low = _bound(call, 1, float("-inf"))
        high = _bound(call, 2, float("inf"))
    if not low <= high:
        raise ModelError(f"its limits {low} and {high} are no range")
    if low == 0 and _endless(high):
        return call.emit("Activation", [x], act_type="relu")
    if _endless(high) and _endless(low):
        return x
    if _endless(high):
        return call.emit("_maximum_scalar", [x], scalar=low)
    if _endless(low):
        return call.emit("_minimum_scalar", [x], scalar=high)
    return call.emit("clip", [x], a_min=low, a_max=high)


def _bound(call: Call, index: int, default: float) -> float:
    value = call.optional_array(index)
    if value is not None and value.size != 1:
        raise ModelError(f"a limit of {value.shape} is not one number")
    return default if value is None else float(value.item())


def _endless(bound: float) -> bool:
    return abs(bound) >= float(np.finfo(np.float32).max)


def hard_sigmoid(call: Call) -> Tensor:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return call.emit("hard_sigmoid", [call.tensor()], alpha=alpha, beta=beta)


def hard_swish(call: Call) -> Tensor:
    """HardSwish: x * clip(x/6 + 1/2, 0, 1)."""
    x = call.tensor()
    gate = call.emit("hard_sigmoid", [x], "gate", alpha=1 / 6, beta=0.5)
    return call.emit("elemwise_mul", [x, gate])


def swish(call: Call) -> Tensor:
    """Swish: x * sigmoid(alpha x)."""
    x, alpha = call.tensor(), call.number("alpha", 1.0)
    scaled = x if alpha == 1 else call.emit("_mul_scalar", [x], "scaled", scalar=alpha)
    gate = call.emit("Activation", [scaled], "gate", act_type="sigmoid")
    return call.emit("elemwise_mul", [x, gate])


def mish(call: Call) -> Tensor:
    """Mish: x * tanh(softplus(x))."""
    x = call.tensor()
    soft = call.emit("Activation", [x], "softplus", act_type="softrelu")
    gate = call.emit("Activation", [soft], "gate", act_type="tanh")
    return call.emit("elemwise_mul", [x, gate])


def gelu(call: Call) -> Tensor:
    """Gelu, exact or by tanh."""
    x, kind = call.tensor(), call.text("approximate", "none")
    if kind == "none":
        return call.emit("LeakyReLU", [x], act_type="gelu")
    if kind != "tanh":
        raise ModelError(f"approximate={kind!r} is not supported")
    cube = call.emit("_power_scalar", [x], "cube", scalar=3.0)
    cube = call.emit("_mul_scalar", [cube], "cube_scaled", scalar=0.044715)
    inner = call.emit("elemwise_add", [x, cube], "inner")
    inner = call.emit("_mul_scalar", [inner], "inner_scaled", scalar=sqrt(2 / np.pi))
    gate = call.emit("Activation", [inner], "tanh", act_type="tanh")
    gate = call.emit("_plus_scalar", [gate], "gate", scalar=1.0)
    half = call.emit("_mul_scalar", [x], "half", scalar=0.5)
    return call.emit("elemwise_mul", [half, gate])


# MXNet's name for equal shapes, for broadcasting, for tensor and scalar, for scalar and tensor.
_ARITHMETIC = {
    "Add": ("elemwise_add", "broadcast_add", "_plus_scalar", "_plus_scalar"),
    "Sub": ("elemwise_sub", "broadcast_sub", "_minus_scalar", "_rminus_scalar"),
    "Mul": ("elemwise_mul", "broadcast_mul", "_mul_scalar", "_mul_scalar"),
    "Div": ("elemwise_div", "broadcast_div", "_div_scalar", "_rdiv_scalar"),
    "Pow": ("broadcast_power", "broadcast_power", "_power_scalar", "_rpower_scalar"),
    "Min": ("broadcast_minimum", "broadcast_minimum", "_minimum_scalar", "_minimum_scalar"),
    "Max": ("broadcast_maximum", "broadcast_maximum", "_maximum_scalar", "_maximum_scalar"),
}
_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt"}


def arithmetic(call: Call, op: str = "") -> Tensor:
    """Element-wise operators of two or more inputs."""
    op = op or call.op
    values: list[Known | Tensor] = [call.plain(i) for i in range(len(call.inputs))]
    result = values[0]
    for i, value in enumerate(values[1:], 1):
        last = i == len(values) - 1
        result = _pair(call, op, result, value, "" if last else f"{i}")
    if not isinstance(result, Tensor):
        raise ModelError("nothing in it depends on the images")
    return result


def _pair(call: Call, op: str, a: Known | Tensor, b: Known | Tensor, part: str) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.rank != b.rank:
            raise ModelError(f"{a.sizes} and {b.sizes} for each image do not have one rank")
        alike, broadcast, _, _ = _ARITHMETIC[op]
        same = (a.multiple, a.sizes) == (b.multiple, b.sizes)
        return call.emit(alike if same else broadcast, [a, b], part)
    if isinstance(a, Tensor) and not isinstance(b, Tensor):
        return _with_constant(call, op, a, _rows(call, b, a), constant_first=False, part=part)
    if isinstance(b, Tensor) and not isinstance(a, Tensor):
        return _with_constant(call, op, b, _rows(call, a, b), constant_first=True, part=part)
    raise ModelError("two of its inputs are constants")


def _rows(call: Call, known: Known, x: Tensor) -> Array:
    return call.rows(known) if known.values[0].ndim == x.rank else known.constant


def _with_constant(
    call: Call, op: str, x: Tensor, constant: Array, constant_first: bool, part: str
) -> Tensor:
    _, broadcast, scalar_op, reverse_op = _ARITHMETIC[op]
    if constant.ndim > x.rank:
        raise ModelError(f"a constant of {constant.shape} does not fit {x.sizes} for each image")
    if op == "Mul" and constant.size == 1 and float(constant.reshape(-1)[0]) == 0.5:
        inner = gelu_input(call.build, x)
        if inner is not None:
            return call.emit("LeakyReLU", [inner], part, act_type="gelu")
    if constant.size == 1:
        scalar = float(constant.reshape(-1)[0])
        if op == "Pow" and not constant_first and scalar in _POWERS:
            return call.emit(_POWERS[scalar], [x], part)
        return call.emit(reverse_op if constant_first else scalar_op, [x], part, scalar=scalar)
    if op == "Add":
        merged = _dense_bias(call, x, constant, part)
        if merged is not None:
            return merged
    shape = (1,) * (x.rank - constant.ndim) + constant.shape
    weight = call.parameter(f"{part}_constant" if part else "constant", constant.reshape(shape))
    pair: list[Tensor | Weight] = [weight, x] if constant_first else [x, weight]
    return call.emit(broadcast, pair, part)


def _dense_bias(call: Call, x: Tensor, constant: Array, part: str) -> Tensor | None:
    """MatMul and Add are one dense layer with a bias."""
    node = call.build.nodes[x.entry[0]]
    is_row = constant.size == constant.shape[-1] == x.sizes[-1] if x.sizes else False
    if node.op != "FullyConnected" or node.attrs["no_bias"] != "True" or not is_row:
        return None
    before, weight = (call.build.tensors[number] for number, _ in node.inputs)
    bias = call.parameter(f"{part}_bias" if part else "bias", constant.reshape(-1))
    return call.emit("FullyConnected", [before, weight, bias], part,
                     **(node.attrs | {"no_bias": False}))  # fmt: skip


def mean(call: Call) -> Tensor:
    total = arithmetic(call, "Add")
    return call.emit("_mul_scalar", [total], "mean", scalar=1 / len(call.inputs))


def selu(call: Call) -> Tensor:
    """Selu: gamma * (x > 0 ? x : alpha * (exp(x) - 1))."""
    alpha = call.number("alpha", 1.6732632423543772)
    y = call.emit("LeakyReLU", [call.tensor()], "elu", act_type="elu", slope=alpha)
    return call.emit("_mul_scalar", [y], scalar=call.number("gamma", 1.0507009873554805))


RULES: dict[str, Rule] = {
    "Relu": _activation("relu"), "Sigmoid": _activation("sigmoid"), "Tanh": _activation("tanh"),
    "Softplus": _activation("softrelu"), "Softsign": _activation("softsign"),
    "LeakyRelu": leaky_relu, "PRelu": prelu, "Elu": elu, "Selu": selu, "Clip": clip,
    "HardSigmoid": hard_sigmoid, "HardSwish": hard_swish, "Swish": swish, "Mish": mish,
    "Gelu": gelu, "Erf": _unary("erf"), "Sqrt": _unary("sqrt"), "Neg": _unary("negative"),
    "Exp": _unary("exp"), "Log": _unary("log"), "Abs": _unary("abs"),
    "Reciprocal": _unary("reciprocal"), "Sin": _unary("sin"), "Cos": _unary("cos"),
    **dict.fromkeys(_ARITHMETIC, arithmetic),
    "Sum": partial(arithmetic, op="Add"), "Mean": mean,
}  # fmt: skip
