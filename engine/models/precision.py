"""A backbone at the precision its device is fast at. Heads stay in float32.

int8 follows MXNet's oneDNN recipe: fuse, insert quantised operators, give each its
range, fuse again.  The ranges are the smallest and largest values that float32 showed
on a few images ("naive" calibration: its maps agree better with float32 than those of
entropy calibration).  Weights are rounded by `engine.models.weight_rounding`, and signed
values moved by `engine.models.unsigned`.  The first convolution may stay in float32, for a
tenth of the speed.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, NDArrayHandle, check_call, py_str
from mxnet.contrib import amp
from mxnet.contrib import quantization as mxnet_quantization

from shardcam.engine.models.bound_program import Program, backbone, entries_of
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.folded_norms import with_folded_norms
from shardcam.engine.models.fused_graph import BACKEND, SETTINGS, convolutions, fused, quantized
from shardcam.engine.models.graph import cut
from shardcam.engine.models.layer_names import with_maps
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.unsigned import as_text, from_text, in_the_middle, movable, moved
from shardcam.engine.models.weight_rounding import MOST_INPUTS, Site, on_steps, steps_off
from shardcam.engine.types import F4, F8, Quantization

FP32, BF16, INT8, FP16 = "fp32", "bf16", "int8", "fp16"
HALVES = {BF16: "bfloat16", FP16: "float16"}


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

    `moments` are those of `engine.models.weight_rounding.Site`, by the name of the weight;
    `extremes` the smallest and largest values of each channel, by the name of an operator whose
    output can be moved.
    """

    program: Program
    ranges: dict[str, tuple[float, float]]
    moments: dict[str, F8]
    extremes: dict[str, tuple[F4, F4]]

    @cached_property
    def _rounding(self) -> dict[str, str]:
        return {
            weight: steps_off(self.program.arguments[weight].asnumpy(), moments)
            for weight, moments in self.moments.items()
            if np.isfinite(moments).all()
        }

    @cached_property
    def _moved(self) -> tuple[dict[str, str], Program, dict[str, tuple[float, float]]]:
        """How outputs are moved, the fused program of those, and all its ranges."""
        finite = all(np.isfinite(ends).all() for ends in self.extremes.values())
        extremes = self.extremes if finite else {}
        middles = {name: in_the_middle(*ends) for name, ends in extremes.items()}
        before = {one.output: one for one in convolutions(fused(self.program))}
        after = fused(moved(self.program, {name: shift for name, (shift, _) in middles.items()}))
        names = {one.convolution: one.output for one in convolutions(after)}
        ranges = {}
        for name, known in self.ranges.items():
            one = before.get(name)
            _, width = middles.get(one.last if one else "", (None, None))
            ranges[names[one.convolution] if one else name] = (0.0, width) if width else known
        shifts = {name: as_text(shift) for name, (shift, _) in middles.items()}
        return shifts, after, ranges

    def quantization(self, keep_first: bool) -> Quantization:
        """What int8 needs; `keep_first` leaves the first convolution in float32."""
        shifts, program, ranges = self._moved
        _, collector = quantized(program, keep_first)
        first = convolutions(program)[0].site.weight if keep_first else None
        return Quantization(
            {name: ranges[name] for name in ranges if name in collector.include_layer},
            keep_first,
            {weight: off for weight, off in self._rounding.items() if weight != first},
            shifts,
            folded=True,
        )


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
    entries = entries_of(cuts, [(definition.graph.number(name), 0) for name in read])
    program = backbone(with_folded_norms(definition, entries), entries, mx.cpu())
    whole = fused(program)
    wanted = {name for keep in (False, True) for name in quantized(whole, keep)[1].include_layer}
    found = Observed(program, {}, {}, {})
    parts = convolutions(whole)
    lasts = {one.output: one.last for one in parts if one.output in wanted}
    can_move = movable(program, lasts.values())
    readers: dict[str, list[Site]] = {}
    for one in parts:
        weight = program.arguments.get(one.site.weight)
        if (
            weight is not None
            and weight.size // len(weight) <= MOST_INPUTS
            and one.source in wanted
        ):
            readers.setdefault(one.source, []).append(one.site)

    room = np.empty(0, np.float32)  # for the values of any tensor: new memory costs more than they

    def see(done: set[str], raw_name: bytes, handle: Any) -> None:
        nonlocal room
        name = py_str(raw_name)
        if name not in wanted or name in done:
            return
        done.add(name)
        array = mx.nd.NDArray(ctypes.cast(handle, NDArrayHandle), writable=False)
        if room.size < array.size:
            room = np.empty(array.size, np.float32)
        values = room[: array.size].reshape(array.shape)
        place, size = values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.size)
        check_call(_LIB.MXNDArraySyncCopyToCPU(array.handle, place, size))
        last = lasts.get(name, "")
        by_channel = last in can_move
        rows = values.reshape(*(array.shape[:2] if by_channel else (1, 1)), -1)
        ends = rows.min(axis=2).min(axis=0), rows.max(axis=2).max(axis=0)  # MXNet's own are slow
        if by_channel:
            known = found.extremes.get(last, ends)
            found.extremes[last] = np.minimum(known[0], ends[0]), np.maximum(known[1], ends[1])
        low, high = found.ranges.get(name, (np.inf, -np.inf))
        found.ranges[name] = min(low, float(ends[0].min())), max(high, float(ends[1].max()))
        for site in readers.get(name, ()):
            moments = site.moments(values)
            found.moments[site.weight] = found.moments.get(site.weight, 0) + moments

    for shape, alike in groupby(batches, np.shape):
        data = mx.nd.zeros(shape)
        executor = whole.bind({definition.input_name: data})
        for images in alike:
            executor.set_monitor_callback(partial(see, set()), monitor_all=True)
            data[:] = images
            executor.forward(is_train=False)
            mx.nd.waitall()
    return found


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
