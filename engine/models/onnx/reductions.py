"""Reductions that MXNet makes of several operators."""

from __future__ import annotations

from dataclasses import replace

from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.dense import reduce
from shardcam.engine.models.onnx.onnx_graph import Tensor

TINY = 1e-30  # below what float32 adds to a norm, but its root has a finite slope at nothing


def sum_square(call: Call) -> Tensor:
    return reduce(_over(call, "ReduceSum", call.emit("square", [call.tensor()], "square")))


def l1_norm(call: Call) -> Tensor:
    return reduce(_over(call, "ReduceSum", call.emit("abs", [call.tensor()], "abs")))


def l2_norm(call: Call) -> Tensor:
    """ReduceL2, with a slope of zero where all is zero."""
    squares = call.emit("square", [call.tensor()], "square")
    total = reduce(_over(call, "ReduceSum", squares, "sum"))
    return call.emit("sqrt", [call.emit("_plus_scalar", [total], "above", scalar=TINY)])


def log_sum(call: Call) -> Tensor:
    return call.emit("log", [reduce(_over(call, "ReduceSum", call.tensor(), "sum"))])


def log_sum_exp(call: Call) -> Tensor:
    """ReduceLogSumExp. The largest is taken out first, so that nothing overflows."""
    x = call.tensor()
    kept = replace(call, attributes={**call.attributes, "keepdims": 1})
    least = reduce(_over(kept, "ReduceMax", x, "max"))
    rest = call.emit("exp", [call.emit("broadcast_sub", [x, least], "rest")], "exp")
    total = call.emit("log", [reduce(_over(call, "ReduceSum", rest, "sum"))], "log")
    most = least if total.sizes == least.sizes else reduce(_over(call, "ReduceMax", x, "top"))
    return call.emit("elemwise_add", [total, most])


def _over(call: Call, op: str, x: Tensor, part: str = "") -> Call:
    """The same axes with a simpler operator."""
    name = f"{call.name}/{part}" if part else call.name
    return replace(call, op=op, name=name, inputs=(x, *call.inputs[1:]))


RULES = {
    "ReduceSumSquare": sum_square, "ReduceL1": l1_norm, "ReduceL2": l2_norm,
    "ReduceLogSum": log_sum, "ReduceLogSumExp": log_sum_exp,
}  # fmt: skip
