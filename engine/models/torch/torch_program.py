"""A part of a graph as a list of calls, with the weights it needs on a device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shardcam.engine.models.graph import VARIABLE, Entry, Graph, ancestors
from shardcam.engine.models.torch.fused_steps import FUSED, Fused
from shardcam.engine.models.torch.torch_operators import OPERATORS, attributes_of
from shardcam.engine.types import F4

# In half precision their results, or what they add up, leave its range or its digits.
_WIDE = frozenset(
    {
        *("L2Normalization", "LRN", "norm", "sum", "nansum", "prod", "square", "softmin"),
        *("exp", "expm1", "log", "log10", "log1p", "log2", "log_softmax", "softmax", "rsqrt"),
        *("cosh", "sinh", "tan", "reciprocal", "rcbrt", "broadcast_power", "_power"),
        *("_power_scalar", "_rpower_scalar", "_rdiv_scalar", "_hypot", "_hypot_scalar"),
        *("broadcast_hypot", "broadcast_div", "elemwise_div", "smooth_l1", "InstanceNorm"),
        *("GroupNorm", "LayerNorm"),
    }
)


@dataclass(frozen=True)
class _Step:
    """One call: which values it reads, what it makes, and which nobody reads after it."""

    function: Callable[..., Any]
    inputs: tuple[Entry, ...]
    number: int  # of the node
    last: tuple[Entry, ...]


class Program:
    """What computes some entries of a graph.

    Parameters
    ----------
    graph
        The whole network or a part of it. What its outputs do not need is not computed.
    entries
        What is wanted, in this order.
    weights
        Values of its variables but the inputs.
    dtype
        Of the inputs; operators that half precision does not suit work in float32.
    """

    def __init__(
        self,
        graph: Graph,
        entries: Sequence[Entry],
        weights: Weights,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._entries = tuple(entries)
        needed = ancestors(graph, entries)
        self._inputs: dict[str, Entry] = {}
        self._weights: dict[Entry, Tensor] = {}
        last: dict[Entry, int] = {}
        for number in sorted(needed):
            last.update(dict.fromkeys(graph.nodes[number].inputs, number))
        self._steps: list[_Step] = []
        for number in sorted(needed):
            node = graph.nodes[number]
            if node.op != VARIABLE:
                function = partial(_function(node.op), **attributes_of(node))
                if node.op in _WIDE and dtype != torch.float32:
                    function = partial(_in_float32, function)
                done = {e for e in node.inputs if last[e] == number and e not in self._entries}
                self._steps.append(_Step(function, node.inputs, number, tuple(done)))
            elif node.name in weights:
                self._weights[number, 0] = weights[node.name]
            else:
                self._inputs[node.name] = (number, 0)

    def __call__(
        self, inputs: Mapping[str, Tensor], on_value: Callable[[int, Tensor], None] | None = None
    ) -> list[Tensor]:
        """Values of the wanted entries.

        Parameters
        ----------
        inputs
            Of the variables that are no weights.
        on_value
            Is shown every operator's number and its first output.
        """
        values: dict[Entry, Tensor] = dict(self._weights)
        values.update({self._inputs[name]: value for name, value in inputs.items()})
        for step in self._steps:
            made = step.function(*[values[entry] for entry in step.inputs])
            for entry in step.last:
                del values[entry]
            outputs = made if isinstance(made, tuple) else (made,)
            values.update({(step.number, i): value for i, value in enumerate(outputs)})
            if on_value is not None:
                on_value(step.number, outputs[0])
        return [values[entry] for entry in self._entries]


def _function(op: str) -> Callable[..., Any]:
    return Fused(op) if op in FUSED else OPERATORS[op]


class Weights:
    """Parameters on a device, each put there when it is first asked for.

    Parameters
    ----------
    parameters
        By name.
    device
        Where they go.
    dtype
        Of all but `single`.
    single
        Names of those that stay in float32.
    layout
        Of kernels in memory.
    """

    def __init__(
        self,
        parameters: Mapping[str, F4],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        single: Collection[str] = (),
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._parameters, self.device = parameters, device
        self._dtype, self._single, self._layout = dtype, single, layout
        self._there: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._there:
            value = torch.from_numpy(np.require(self._parameters[name], np.float32, ["C", "W"]))
            value = value.to(self.device, torch.float32 if name in self._single else self._dtype)
            self._there[name] = (
                value.contiguous(memory_format=self._layout) if value.ndim == 4 else value
            )
        return self._there[name]


def _in_float32(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    dtype = inputs[0].dtype
    return function(*(x.float() for x in inputs)).to(dtype)


def shapes_of(
    graph: Graph,
    entries: Sequence[Entry],
    parameters: Mapping[str, F4],
    inputs: Mapping[str, tuple[int, ...]],
) -> dict[int, tuple[int, ...]]:
    """Shapes of the inputs and of every operator's first output, by node.

    On the CPU, of zeros: PyTorch's "meta" device computes nothing, but imports its compiler first,
    which takes three seconds.
    """
    here = torch.device("cpu")
    shapes = {graph.number(name): shape for name, shape in inputs.items()}

    def note(number: int, value: Tensor) -> None:
        shapes[number] = tuple(value.shape)

    program = Program(graph, entries, Weights(parameters, here))
    with torch.no_grad():
        program({name: torch.zeros(shape) for name, shape in inputs.items()}, note)
    return shapes
