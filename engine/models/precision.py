"""A backbone at the precision its device is fast at. Heads stay in float32.

int8 follows MXNet's oneDNN recipe: fuse, insert quantised operators, give each its
range, fuse again.  The ranges are the smallest and largest values that float32 showed
on a few images ("naive" calibration: its maps agree better with float32 than those of
entropy calibration).  Weights are rounded by `engine.models.weight_rounding`, and signed
values moved by `engine.models.unsigned`.  The first convolution may stay in float32, for a
tenth of the speed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import mxnet as mx
from mxnet.contrib import amp
from mxnet.contrib import quantization as mxnet_quantization

from shardcam.engine.models.bound_program import Program
from shardcam.engine.models.fused_graph import BACKEND, SETTINGS, fused, quantized
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.unsigned import from_text, moved
from shardcam.engine.models.weight_rounding import on_steps
from shardcam.engine.types import Quantization

FP32, BF16, INT8, FP16 = "fp32", "bf16", "int8", "fp16"
HALVES = {BF16: "bfloat16", FP16: "float16"}


@in_one_line
def lower(program: Program, precision: str, quantization: Quantization | None = None) -> Program:
    """The same program at another precision; int8 needs what
    `engine.models.observed.observe` found.

    bf16 and int8 run on CPUs, fp16 on GPUs.
    """
    if precision in HALVES:
        symbol, arguments, states = amp.convert_model(
            program.symbol,
            program.arguments,
            program.states,
            target_dtype=HALVES[precision],
            excluded_sym_names=_mixed_joins(program.symbol) if precision == BF16 else None,
        )
        return Program(symbol, arguments, states, program.device)
    if precision == INT8:
        if quantization is None:
            raise ValueError("int8 needs calibrated ranges")
        return _to_int8(program, quantization)
    return program


def _mixed_joins(symbol: mx.sym.Symbol) -> list[str]:
    """Names of the concatenations that would be given both bfloat16 and float32.

    MXNet takes their inputs as they come, where it casts those of sums and products.
    """
    kinds = amp.lists.symbol_bf16
    lowered, neutral, widest = kinds.BF16_FUNCS, kinds.BF16_FP32_FUNCS, kinds.WIDEST_TYPE_CASTS
    low: list[bool] = []  # of each node, whether its value is bfloat16
    mixed = []
    for node in json.loads(symbol.tojson())["nodes"]:
        op, inputs = node["op"], [low[entry[0]] for entry in node["inputs"]]
        if op == "Concat" and len({*inputs}) == 2:
            mixed.append(node["name"])
        joined = op == "Concat" or op in widest
        low.append(op in lowered or (all(inputs) if joined else op in neutral and inputs[0]))
    return mixed


def _to_int8(program: Program, quantization: Quantization) -> Program:
    rounded = {
        name: mx.nd.array(on_steps(program.arguments[name].asnumpy(), off), program.device)
        for name, off in quantization.rounding.items()
        if name in program.arguments
    }
    program = replace(program, arguments=program.arguments | rounded)
    shifts = {name: from_text(text) for name, text in quantization.shifts.items()}
    program = fused(moved(program, shifts))
    symbol, collector = quantized(program, quantization.keep_first)
    collector.min_max_dict = quantization.ranges
    symbol, arguments, states = mxnet_quantization.calib_graph(
        symbol, program.arguments, program.states, collector, **SETTINGS
    )
    arguments |= _by_other_names(symbol, arguments, program.arguments)
    return Program(symbol.get_backend_symbol(BACKEND), arguments, states, program.device)


def _by_other_names(
    symbol: mx.sym.Symbol, done: Collection[str], weights: dict[str, mx.nd.NDArray]
) -> dict[str, mx.nd.NDArray]:
    """int8 weights that MXNet leaves out, since their names end in neither weight nor bias."""
    made: dict[str, mx.nd.NDArray] = {}
    for name in symbol.list_arguments():
        value = weights.get(name.removesuffix("_quantize"))
        if value is not None and name not in done:
            parts = mx.nd.contrib.quantize(value, value.min(), value.max(), out_type="int8")
            made |= dict(zip((name, f"{name}_min", f"{name}_max"), parts, strict=True))
    return made
