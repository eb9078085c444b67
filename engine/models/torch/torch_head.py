"""From one layer to the logits, in float32: forward, and backward where needed."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shardcam.engine.models.free_memory import HEAD_BYTES
from shardcam.engine.models.graph import Entry
from shardcam.engine.models.torch.torch_device import HostCopy, in_one_line, on_device
from shardcam.engine.models.torch.torch_program import Program
from shardcam.engine.types import F4, I4


@dataclass(frozen=True)
class TorchHeadProgram:
    """What a head computes."""

    program: Program
    crossing: tuple[str, ...]  # its inputs; the first is the layer
    entries: tuple[Entry, ...]  # the same, in the whole graph
    dense: Tensor | None  # (classes,C) weight, if it is global average pooling and one dense layer
    piecewise_linear: bool  # no second derivatives
    bytes_per_row: int  # of all float32 tensors from the layer on, without the weights


class TorchHead:
    """A head and the inputs it reads; see `engine.protocols.HeadView`.

    In closed form the gradient is known without a backward pass:
    ``d logit[t] / d A[c,y,x] = dense[t,c] / (h*w)``.

    Parameters
    ----------
    program
        What it computes.
    inputs
        (rows,...) of each; the first is the layer.
    count
        How many of the rows are in use.
    differentiable
        A gradient may be asked for.
    """

    def __init__(
        self,
        program: TorchHeadProgram,
        inputs: list[Tensor],
        count: int,
        differentiable: bool = True,
    ) -> None:
        self.program, self._inputs, self._count = program, inputs, count
        self._trains = differentiable and program.dense is None
        self._output: Tensor | None = None  # (rows,classes)
        self._logits: HostCopy

    @property
    def activation(self) -> Tensor:
        """(N,C,h,w) on the device."""
        return self._inputs[0].detach()[: self._count]

    @in_one_line
    def begin(self) -> Tensor:
        """Begin to compute the logits; reading them waits."""
        if self._output is None:
            tap = self._inputs[0].detach().requires_grad_(self._trains)
            self._inputs = [tap, *self._inputs[1:]]
            named = dict(zip(self.program.crossing, self._inputs, strict=True))
            with torch.set_grad_enabled(self._trains):
                (self._output,) = self.program.program(named)
            self._logits = HostCopy(self._output[: self._count])
        return self._output

    @property
    def logits(self) -> F4:
        """(N,classes), an array."""
        self.begin()
        return self._logits.wait()

    @in_one_line
    def gradient(self, direction: F4 | Tensor) -> Tensor:
        """(n,classes) -> (n,C,h,w) gradient of the sum of direction * logits, or (n,C,1,1)."""
        tap, dense = self._inputs[0], self.program.dense
        if dense is not None:
            area = math.prod(tap.shape[2:])
            return (on_device(direction, dense) @ dense / area)[:, :, None, None]
        output = self.begin()
        tap = self._inputs[0]
        used = len(direction)
        if not output.requires_grad:  # nothing on the way has a slope
            return torch.zeros_like(tap[:used])
        whole = torch.zeros_like(output)
        whole[:used] = on_device(direction, whole)
        (gradient,) = torch.autograd.grad(output, tap, whole, retain_graph=True)
        return gradient[:used].contiguous()

    @functools.cached_property
    def rows(self) -> int:
        """Rows that `at` takes: its tensors keep within HEAD_BYTES, and C are even parts of it."""
        batch, channels = self._inputs[0].shape[:2]
        affordable = max(1, HEAD_BYTES // self.program.bytes_per_row)
        parts = -(-channels // affordable)
        rows: int = min(affordable, max(batch, -(-channels // parts)))
        return rows

    @in_one_line
    def at(self, activation: F4 | Tensor, image: I4 | Tensor, differentiable: bool) -> TorchHead:
        """Run the head on (M,C,h,w) activations; row j reads the rest from image `image[j]`."""
        tap, *others = self._inputs
        chosen = on_device(image, tap).long() if others else None
        inputs = [on_device(activation, tap), *(other[chosen] for other in others)]
        return TorchHead(self.program, inputs, len(activation), differentiable)
