"""Attention, which is one operator since opset 23."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import elementwise
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor
from shardcam.engine.models.onnx.products import product
from shardcam.engine.models.onnx.shapes import reshape, transpose

LOWEST = np.finfo(np.float32).min


def attention(call: Call) -> Tensor:
    """softmax(Q K^T scale + mask) V of (N,heads,T,d), or of (N,T,heads*d)."""
    call.ignore("softmax_precision", "qk_matmul_output_mode")
    call.must_be("is_causal", 0)
    call.must_be("softcap", 0.0)
    if call.outputs > 1 or call.has(4) or call.has(5):
        raise ModelError("keys and values of the past are not supported")
    heads = [call.integer(f"{name}_num_heads", 0) for name in ("q", "kv", "kv")]
    q, k, v = (_heads(call, call.tensor(i), count, "qkv"[i]) for i, count in enumerate(heads))
    if not q.sizes[0] == k.sizes[0] == v.sizes[0]:
        raise ModelError("several queries for each key are not supported")
    scale = call.number("scale", 1 / sqrt(q.sizes[-1]))
    scores = product(_part(call, "product"), q, transpose(call, k, (0, 1, 3, 2), "turned"))
    scores = call.emit("_mul_scalar", [scores], "scaled", scalar=scale)
    if call.has(3):
        inputs = (scores, _added(call.plain(3)))
        scores = elementwise.arithmetic(replace(_part(call, "masked"), inputs=inputs), "Add")
    shares = call.emit("softmax", [scores], "softmax", axis=-1)
    if call.tensor().rank == 4:
        return product(call, shares, v)
    y = transpose(call, product(_part(call, "sum"), shares, v), (0, 2, 1, 3), "joined")
    return reshape(call, y, y.multiple, (y.sizes[0], y.sizes[1] * y.sizes[2]))


def _heads(call: Call, x: Tensor, count: int, part: str) -> Tensor:
    if x.rank == 4:
        return x
    if x.rank != 3 or count < 1 or x.sizes[1] % count:
        raise ModelError(f"{x.sizes} cannot be split into {count} heads")
    apart = reshape(call, x, x.multiple, (x.sizes[0], count, x.sizes[1] // count), f"{part}_apart")
    return transpose(call, apart, (0, 2, 1, 3), f"{part}_heads")


def _added(mask: Known | Tensor) -> Known | Tensor:
    """What is added to the scores; a mask of truth values keeps what is true."""
    if isinstance(mask, Tensor) or mask.constant.dtype.kind != "b":
        return mask
    return Known.of(np.where(mask.constant, np.float32(0), LOWEST))


def _part(call: Call, part: str) -> Call:
    return replace(call, name=f"{call.name}/{part}")
