"""From one layer to the logits, in float32: forward, and backward where needed."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import mxnet as mx
import numpy as np

from shardcam.engine.models.bound_program import Program
from shardcam.engine.models.free_memory import HEAD_BYTES
from shardcam.engine.models.graph import Entry
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.types import F4, I4


@dataclass(frozen=True)
class HeadProgram:
    """What a head computes, not yet bound to buffers."""

    program: Program
    crossing: tuple[str, ...]  # its inputs; the first is the layer
    entries: tuple[Entry, ...]  # the same, in the whole graph
    dense: F4 | None  # (classes,C) weight, if it is global average pooling and one dense layer
    piecewise_linear: bool  # no second derivatives


class Head:
    """A head that reads its inputs in place. MXNet fuses no graph that has a gradient.

    It is the `engine.protocols.HeadView` of the rows that are in use.

    In closed form the gradient is known without a backward pass:
    ``d logit[t] / d A[c,y,x] = dense[t,c] / (h*w)``.
    """

    def __init__(
        self, program: HeadProgram, inputs: list[mx.nd.NDArray], differentiable: bool = True
    ) -> None:
        self.program = program
        self._inputs, self._tap = inputs, inputs[0]
        self._trains = differentiable and program.dense is None
        named = dict(zip(program.crossing, inputs, strict=True))
        if not self._trains:
            self._executor = program.program.bind(named)
        else:
            self._gradient = mx.nd.zeros(self._tap.shape, self._tap.ctx)
            self._executor = program.program.bind(named, {program.crossing[0]: self._gradient})
        self._kept: Head | None = None
        self._kept_as = (0, False)  # its rows, and whether it has a gradient
        self.new_batch(0)

    def new_batch(self, count: int) -> None:
        """Forget what was computed from the inputs as they were; now `count` rows are in use."""
        self._count = count
        self._begun = False  # the logits are being computed
        self._differentiable = False  # what a backward pass needs is there
        self._logits: F4 | None = None
        self._activation: F4 | None = None

    @property
    def activation_shape(self) -> tuple[int, ...]:
        """(C,h,w)."""
        return tuple(self._tap.shape[1:])

    @property
    @in_one_line
    def activation(self) -> F4:
        """(N,C,h,w)."""
        if self._activation is None:
            self._activation = self._tap.asnumpy()[: self._count]
        return self._activation

    @in_one_line
    def begin(self) -> None:
        """Begin to compute the logits; reading them waits."""
        if not self._begun:
            self._forward()

    @property
    @in_one_line
    def logits(self) -> F4:
        """(N,classes). In training mode, because max-pooling's backward needs its workspace."""
        if self._logits is None:
            self.begin()
            self._logits = self._executor.outputs[0].asnumpy()[: self._count]
        return self._logits

    @in_one_line
    def gradient(self, direction: F4) -> F4:
        """(n,classes) -> (n,C,h,w) gradient of the sum of direction * logits, or (n,C,1,1)."""
        dense = self.program.dense
        if dense is not None:
            area = np.float32(math.prod(self._tap.shape[2:]))
            used = direction.any(axis=0)  # few of the classes, and their weights are large
            closed: F4 = (direction[:, used] @ dense[used] / area)[:, :, None, None]
            return closed
        if not self._differentiable:
            self._forward()
        padded = np.zeros(self._executor.outputs[0].shape, np.float32)
        padded[: len(direction)] = direction
        self._executor.backward([mx.nd.array(padded, self._tap.ctx)])
        self._differentiable = False  # it reuses the memory of what the forward pass kept
        gradient: F4 = self._gradient.asnumpy()[: len(direction)]
        return gradient

    @functools.cached_property
    def rows(self) -> int:
        """Rows that `at` takes: its tensors keep within HEAD_BYTES, and C are even parts of it."""
        batch, channels = self._tap.shape[:2]
        affordable = max(1, HEAD_BYTES // self._bytes_per_row())
        parts = -(-channels // affordable)
        rows: int = min(affordable, max(batch, -(-channels // parts)))
        return rows

    @in_one_line
    def at(self, activation: F4, image: I4, differentiable: bool) -> Head:
        """Run the head on (M,C,h,w) activations; row j reads the rest from image `image[j]`."""
        count = len(activation)
        batch = len(self._tap)
        variant = self._variant(min(self.rows, -(-count // batch) * batch), differentiable)
        variant._tap[:count] = activation
        chosen = mx.nd.array(image, self._tap.ctx, dtype=np.int32)
        for mine, its in zip(self._inputs[1:], variant._inputs[1:], strict=True):
            its[:count] = mx.nd.take(mine, chosen)
        variant.new_batch(count)
        return variant

    def _variant(self, rows: int, differentiable: bool) -> Head:
        """The same head on its own inputs; the last variant is kept."""
        if self._kept is None or self._kept_as != (rows, differentiable):
            self._kept, self._kept_as = None, (rows, differentiable)  # its memory goes first
            shapes = [(rows, *tap.shape[1:]) for tap in self._inputs]
            inputs = [mx.nd.zeros(shape, self._tap.ctx) for shape in shapes]
            self._kept = Head(self.program, inputs, differentiable)
        return self._kept

    def _forward(self) -> None:
        self._executor.forward(is_train=self._trains)
        self._begun = self._differentiable = True

    def _bytes_per_row(self) -> int:
        """Bytes of all float32 tensors from the layer on, without the weights."""
        program = self.program.program
        inner = program.symbol.get_internals()
        names = self.program.crossing
        known = {name: value.shape for name, value in program.arguments.items()}
        for name, tap in zip(names, self._inputs, strict=True):
            known[name] = (1, *tap.shape[1:])
        _, shapes, _ = inner.infer_shape(**known)
        weights = program.arguments.keys() | program.states.keys()
        tensors = zip(inner.list_outputs(), shapes, strict=True)
        numbers: int = sum(math.prod(shape) for name, shape in tensors if name not in weights)
        return 4 * numbers
