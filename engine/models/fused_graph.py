"""MXNet's graph with fused operators, and with those of int8 put in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mxnet as mx
from mxnet.contrib import quantization as mxnet_quantization

from shardcam.engine.models.bound_program import Program
from shardcam.engine.models.graph import VARIABLE
from shardcam.engine.models.weight_rounding import Site

BACKEND = "MKLDNN_QUANTIZE"
SETTINGS = {"quantized_dtype": "auto", "calib_mode": "naive"}
_CONVOLUTION = "_sg_mkldnn_conv"


@dataclass(frozen=True)
class FusedConvolution:
    """A convolution with what is fused to it."""

    name: str
    convolution: str  # its own name
    last: str  # name of the last operator in it
    source: str  # name of the tensor that it reads
    site: Site
    rectified: bool  # nothing negative comes out

    @property
    def output(self) -> str:
        """Name of the tensor that it writes."""
        return f"{self.name}_output"


def is_rectifier(op: str, attrs: Mapping[str, str]) -> bool:
    """Whether nothing negative comes out of an operator, whatever it reads."""
    relu = op == "relu" or attrs.get("act_type") == "relu"
    return relu or (op == "clip" and float(attrs["a_min"]) >= 0)


def fused(program: Program) -> Program:
    """The same program with fused operators."""
    return replace(program, symbol=program.symbol.get_backend_symbol(BACKEND))


def convolutions(program: Program) -> list[FusedConvolution]:
    """The convolutions of a fused program, in its order."""
    nodes = json.loads(program.symbol.tojson())["nodes"]
    found = []
    for node in nodes:
        if not node["op"].startswith(_CONVOLUTION):
            continue
        (inner,) = node["subgraphs"]
        convolution = next(n for n in inner["nodes"] if n["op"] == "Convolution")
        data, weight = (
            nodes[node["inputs"][inner["arg_nodes"].index(entry[0])][0]]
            for entry in convolution["inputs"][:2]
        )
        source = data["name"] if data["op"] == VARIABLE else f"{data['name']}_output"
        site = Site.of(weight["name"], convolution.get("attrs", {}))
        last = inner["nodes"][inner["heads"][0][0]]
        rectified = is_rectifier(last["op"], last.get("attrs", {}))
        names = node["name"], convolution["name"], last["name"], source
        found.append(FusedConvolution(*names, site, rectified))
    return found


def quantized(program: Program, keep_first: bool) -> tuple[mx.sym.Symbol, Any]:
    """The symbol of a fused program in int8, and what collects the ranges that it needs.

    `keep_first` leaves the first convolution in float32.
    """
    names = [one.name for one in convolutions(program)]
    symbol, _, _, collector = mxnet_quantization.quantize_graph(
        program.symbol,
        program.arguments,
        program.states,
        quantize_mode="smart",
        excluded_sym_names=names[:1] if keep_first else None,
        **SETTINGS,
    )
    return symbol, collector
