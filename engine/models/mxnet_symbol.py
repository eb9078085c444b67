"""Graphs as MXNet takes them."""

from __future__ import annotations

import mxnet as mx

from shardcam.engine.models.graph import Graph
from shardcam.engine.models.symbol_json import to_json


def symbol_of(graph: Graph) -> mx.sym.Symbol:
    """MXNet's symbol of a graph."""
    return mx.sym.load_json(to_json(graph))
