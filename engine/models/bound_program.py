"""A graph with the values of its variables, ready to be bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mxnet as mx

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import Cut, Entry, Graph, prune
from shardcam.engine.models.graph_forms import with_shared_dense
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_symbol import symbol_of


@dataclass(frozen=True)
class Program:
    """A symbol and the values of its variables, its inputs apart."""

    symbol: mx.sym.Symbol
    arguments: dict[str, mx.nd.NDArray]
    states: dict[str, mx.nd.NDArray]
    device: mx.Context

    @in_one_line
    def bind(
        self,
        inputs: dict[str, mx.nd.NDArray],
        gradients: dict[str, mx.nd.NDArray] | None = None,
    ) -> mx.executor.Executor:
        """An executor that reads `inputs` in place.

        `gradients` names inputs and where their gradients are to be written. Without
        it MXNet fuses operators; a graph that has a gradient it leaves as it is.
        """
        known = {**self.arguments, **inputs}
        return self.symbol.bind(
            self.device,
            {argument: known[argument] for argument in self.symbol.list_arguments()},
            args_grad=gradients,
            grad_req=dict.fromkeys(gradients, "write") if gradients else "null",
            aux_states={state: self.states[state] for state in self.symbol.list_auxiliary_states()},
        )


@in_one_line
def program_of(symbol: mx.sym.Symbol, definition: NetworkDefinition, device: mx.Context) -> Program:
    """Give a part of the network its parameters, on a device."""

    def values(names: list[str]) -> dict[str, mx.nd.NDArray]:
        known = definition.parameters
        return {name: mx.nd.array(known[name], device) for name in names if name in known}

    arguments, states = symbol.list_arguments(), symbol.list_auxiliary_states()
    return Program(symbol, values(arguments), values(states), device)


def entries_of(cuts: Iterable[Cut], read: Iterable[Entry]) -> list[Entry]:
    """What a backbone computes: what crosses the cuts, and what else is read; each once."""
    crossing = [entry for c in cuts for entry in c.backbone]
    return list(dict.fromkeys([*crossing, *read]))


def backbone(definition: NetworkDefinition, entries: list[Entry], device: mx.Context) -> Program:
    """One program that computes entries of the graph.

    BlockGrad keeps each tap outside MXNet's operator fusion: fused, a tap returns the
    value after the operators that follow it. Dense layers need more: a tap makes them shared.
    """
    tapped = with_shared_dense(prune(Graph(definition.graph.nodes, tuple(entries))))
    internals = symbol_of(tapped)
    taps = mx.sym.Group([mx.sym.BlockGrad(internals[i]) for i in range(len(entries))])
    return program_of(taps, definition, device)
