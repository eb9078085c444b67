"""GELU as exporters before opset 20 spell it: 0.5 * (x * (1 + erf(x / sqrt(2)))).

One MXNet operator instead of five that oneDNN does not run.
"""

from __future__ import annotations

from math import isclose, sqrt

from shardcam.engine.models.onnx.onnx_graph import Builder, Tensor


def gelu_input(build: Builder, product: Tensor) -> Tensor | None:
    """`x` if `product` is x * (1 + erf(x / sqrt(2))), in either order."""
    node = build.nodes[product.entry[0]]
    if node.op != "elemwise_mul":
        return None
    pair = [build.tensors[number] for number, _ in node.inputs]
    for x, gate in (pair, reversed(pair)):
        if isinstance(x, Tensor) and isinstance(gate, Tensor) and _gated(build, gate) == x:
            return x
    return None


def _gated(build: Builder, gate: Tensor) -> Tensor | None:
    """`x` if `gate` is 1 + erf(x / sqrt(2))."""
    plus = build.source(gate, "_plus_scalar")
    error = build.source(plus[1], "erf") if plus and float(plus[0].attrs["scalar"]) == 1 else None
    if error is None:
        return None
    for op, factor in (("_div_scalar", sqrt(2)), ("_mul_scalar", sqrt(0.5))):
        scaled = build.source(error[1], op)
        if scaled and isclose(float(scaled[0].attrs["scalar"]), factor, rel_tol=1e-6):
            return scaled[1]
    return None
