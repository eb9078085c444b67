"""A backbone at the precision its device is fast at. Heads stay in float32.

int8 follows MXNet's oneDNN recipe: fuse, insert quantised operators, give each its
range, fuse again.  The ranges are the smallest and largest values that float32 showed
on a few images ("naive" calibration: its maps agree better with float32 than those of
entropy calibration).  Weights are rounded by `engine.models.weight_rounding`.  The first
convolution may stay in float32, for a tenth of the speed.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.base import NDArrayHandle, py_str
from mxnet.contrib import amp
from mxnet.contrib import quantization as mxnet_quantization

from shardcam.engine.models.bound_program import Program, backbone, entries_of
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, cut
from shardcam.engine.models.layer_names import with_maps
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.weight_rounding import F8, MOST_INPUTS, Site, on_steps, steps_off
from shardcam.engine.types import F4, Quantization

FP32, BF16, INT8, FP16 = "fp32", "bf16", "int8", "fp16"
HALVES = {BF16: "bfloat16", FP16: "float16"}

_BACKEND = "MKLDNN_QUANTIZE"
_FUSED_CONVOLUTION = "_sg_mkldnn_conv"
_SETTINGS = {"quantized_dtype": "auto", "calib_mode": "naive"}


@in_one_line
def lower(program: Program, precision: str, quantization: Quantization | None = None) -> Program:
    """The same program at another precision; int8 needs what `calibrate` found.

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


@dataclass(frozen=True)
class Observed:
    """What float32 passes of some images showed of a network, cut at its layers.

    `moments` are those of `engine.models.weight_rounding.Site`, by the name of the weight.
    """

    fused: Program
    ranges: dict[str, tuple[float, float]]
    moments: dict[str, F8]

    def quantization(self, keep_first: bool) -> Quantization:
        """What int8 needs; `keep_first` leaves the first convolution in float32."""
        *_, collector = _quantized(self.fused, keep_first)
        ranges = {
            name: self.ranges[name] for name in self.ranges if name in collector.include_layer
        }
        first = _convolutions(self.fused)[0][1].weight if keep_first else None
        steps = {
            weight: steps_off(self.fused.arguments[weight].asnumpy(), moments)
            for weight, moments in self.moments.items()
            if weight != first and np.isfinite(moments).all()
        }
        return Quantization(ranges, keep_first, steps)


@in_one_line
def observe(
    definition: NetworkDefinition,
    layers: Iterable[str],
    batches: Iterable[F4],
    read: tuple[str, ...] = (),
) -> Observed:
    """What int8 needs to know of every tensor, over float32 passes of some images.

    Parameters
    ----------
    definition
        The network.
    layers
        The layers it will be cut at.
    batches
        Arrays of (N,channels,H,W) preprocessed images; those of one shape follow one another.
    read
        Further layers that will be read.
    """
    layers = tuple(layers)
    definition = with_maps(definition, [*layers, *read])
    cuts = [cut(definition.graph, name, definition.parameters) for name in layers]
    read_entries = [(definition.graph.number(name), 0) for name in read]
    fused = _fused(backbone(definition, entries_of(cuts, read_entries), mx.cpu()))
    wanted = {name for keep in (False, True) for name in _quantized(fused, keep)[3].include_layer}
    readers: dict[str, list[Site]] = {}
    for source, site in _convolutions(fused):
        weight = fused.arguments.get(site.weight)
        if weight is not None and weight.size // len(weight) <= MOST_INPUTS and source in wanted:
            readers.setdefault(source, []).append(site)
    found = Observed(fused, {}, {})

    def see(done: set[str], raw_name: bytes, handle: Any) -> None:
        name = py_str(raw_name)
        if name not in wanted or name in done:
            return
        done.add(name)
        array = ctypes.cast(handle, NDArrayHandle)
        values = mx.nd.NDArray(array, writable=False).asnumpy()  # MXNet's own minimum is slow
        low, high = found.ranges.get(name, (np.inf, -np.inf))
        found.ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
        for site in readers.get(name, ()):
            moments = site.moments(values)
            found.moments[site.weight] = found.moments.get(site.weight, 0) + moments

    for shape, alike in groupby(batches, np.shape):
        data = mx.nd.zeros(shape)
        executor = fused.bind({definition.input_name: data})
        for images in alike:
            executor.set_monitor_callback(partial(see, set()), monitor_all=True)
            data[:] = images
            executor.forward(is_train=False)
            mx.nd.waitall()
    return found


def calibrate(
    definition: NetworkDefinition,
    layers: Iterable[str],
    batches: Iterable[F4],
    keep_first: bool,
    read: tuple[str, ...] = (),
) -> Quantization:
    """What int8 needs; see `observe` and `Observed.quantization`."""
    return observe(definition, layers, batches, read).quantization(keep_first)


def _to_int8(program: Program, quantization: Quantization) -> Program:
    rounded = {
        name: mx.nd.array(on_steps(program.arguments[name].asnumpy(), steps), program.device)
        for name, steps in quantization.steps.items()
        if name in program.arguments
    }
    fused = _fused(replace(program, arguments=program.arguments | rounded))
    symbol, _, _, collector = _quantized(fused, quantization.keep_first)
    collector.min_max_dict = quantization.ranges
    symbol, arguments, states = mxnet_quantization.calib_graph(
        symbol, fused.arguments, fused.states, collector, **_SETTINGS
    )
    arguments |= _by_other_names(symbol, arguments, fused.arguments)
    return Program(symbol.get_backend_symbol(_BACKEND), arguments, states, program.device)


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


def _fused(program: Program) -> Program:
    symbol = program.symbol.get_backend_symbol(_BACKEND)
    return Program(symbol, program.arguments, program.states, program.device)


def _convolutions(fused: Program) -> list[tuple[str, Site]]:
    """Of each fused convolution the name of the tensor that it reads, and how it reads it."""
    nodes = json.loads(fused.symbol.tojson())["nodes"]
    found = []
    for node in nodes:
        if not node["op"].startswith(_FUSED_CONVOLUTION):
            continue
        (inner,) = node["subgraphs"]
        convolution = next(n for n in inner["nodes"] if n["op"] == "Convolution")
        data, weight = (
            nodes[node["inputs"][inner["arg_nodes"].index(entry[0])][0]]
            for entry in convolution["inputs"][:2]
        )
        source = data["name"] if data["op"] == VARIABLE else f"{data['name']}_output"
        site = Site.of(weight["name"], convolution.get("attrs", {}))
        found.append((source, site))
    return found


def _quantized(fused: Program, keep_first: bool) -> tuple[mx.sym.Symbol, Any, Any, Any]:
    nodes = json.loads(fused.symbol.tojson())["nodes"]
    convolutions = [n["name"] for n in nodes if n["op"].startswith(_FUSED_CONVOLUTION)]
    found: tuple[mx.sym.Symbol, Any, Any, Any] = mxnet_quantization.quantize_graph(
        fused.symbol,
        fused.arguments,
        fused.states,
        quantize_mode="smart",
        excluded_sym_names=convolutions[:1] if keep_first else None,
        **_SETTINGS,
    )
    return found
