"""What float32 passes of a few images show of a network: all that int8 needs to know of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from shardcam.engine.models.bound_program import Program, backbone
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.folded_norms import with_folded_norms
from shardcam.engine.models.fused_graph import convolutions, fused, quantized
from shardcam.engine.models.mxnet_errors import in_one_line
from shardcam.engine.models.mxnet_network import BoundNetwork
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from shardcam.engine.models.unsigned import as_text, in_the_middle, movable, moved
from shardcam.engine.models.weight_rounding import MOST_INPUTS, Site, Window, steps_off
from shardcam.engine.types import F4, F8, Quantization


class Unrounded(BoundNetwork):
    """A network in float32 whose operators are those that int8 will have.

    Parameters
    ----------
    definition
        The network.
    layers
        The layers it is cut at.
    rows
        Images of a pass.
    read
        Further layers that will be read.
    """

    def __init__(
        self,
        definition: NetworkDefinition,
        layers: Iterable[str],
        rows: int,
        read: tuple[str, ...] = (),
    ) -> None:
        programs = MxnetPrograms(definition, tuple(layers), extra_layers=read)
        entries = programs.entries
        folded = with_folded_norms(programs.definition, entries)
        self.unfused = backbone(folded, entries, programs.device)
        programs = programs.with_backbone(fused(self.unfused))
        super().__init__(programs, definition.preprocessing, rows, rows)


@dataclass(frozen=True)
class Observed:
    """What was seen of a program whose operators are not fused yet.

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
def observe(network: Unrounded, batches: Iterable[F4]) -> Observed:
    """What int8 needs to know of every tensor, over passes of some images.

    How they share passes changes nothing.

    Parameters
    ----------
    network
        The network, cut at the layers that int8 will be cut at.
    batches
        Arrays of (N,channels,H,W) preprocessed images, of no more than a pass takes.
    """
    watch = _Watch(network)
    network.watch(watch.see)
    for images in batches:
        missing = network.rows - len(images)
        watch.begin(len(images) / network.rows)
        network.forward(np.concatenate([images, *[images[-1:]] * missing])).wait()
        watch.end()
    network.watch(lambda name, array: None)
    return watch.found


class _Watch:
    """Notes what the tensors of passes hold."""

    def __init__(self, network: Unrounded) -> None:
        whole, program = network.programs.backbone, network.unfused
        self.found = Observed(program, {}, {}, {})
        parts = convolutions(whole)
        self._wanted = {
            name for keep in (False, True) for name in quantized(whole, keep)[1].include_layer
        }
        lasts = {one.output: one.last for one in parts if one.output in self._wanted}
        can_move = {*movable(program, lasts.values())}
        self._moving = {name: last for name, last in lasts.items() if last in can_move}
        self._rectified = {one.output for one in parts if one.rectified}
        self._readers: dict[str, list[Site]] = {}
        for one in parts:
            weight = program.arguments.get(one.site.weight)
            if (
                weight is not None
                and weight.size // len(weight) <= MOST_INPUTS
                and one.source in self._wanted
            ):
                self._readers.setdefault(one.source, []).append(one.site)
        self._windows: dict[Site, list[Window]] = {}
        self._room = np.empty(0, np.float32)  # of any tensor: new memory costs more than copying

    def begin(self, share: float) -> None:
        """A pass begins, of which such a share are images to be seen."""
        self._share = share
        self._seen: set[str] = set()
        self._ends: list[tuple[str, mx.nd.NDArray | None, mx.nd.NDArray]] = []
        self._boxes: list[tuple[Site, list[mx.nd.NDArray]]] = []

    def see(self, name: str, array: mx.nd.NDArray) -> None:
        """Note what a tensor holds, if int8 needs it."""
        if name not in self._wanted or name in self._seen:
            return
        self._seen.add(name)
        if array.ndim != 4:
            values = self._read(array)
            self._widen(name, values.min(keepdims=True), values.max(keepdims=True))
            return
        # oneDNN takes it in a layout of its own; to read that takes up to forty times as long
        low = None if name in self._rectified else _largest(_negative(array))
        self._ends.append((name, low, _largest(array)))
        for site in self._readers.get(name, ()):
            if site not in self._windows:
                self._windows[site] = site.windows(array.shape)
            boxes = [_cut_out(array, *window.box) for window in self._windows[site]]
            self._boxes.append((site, boxes))

    def end(self) -> None:
        """A pass has ended: note what oneDNN found."""
        for name, low, high in self._ends:
            largest = high.asnumpy().max(axis=(0, 2, 3))
            smallest = np.zeros_like(largest) if low is None else 0 - low.asnumpy().max((0, 2, 3))
            self._widen(name, smallest, largest)
        for site, boxes in self._boxes:
            count = round(len(boxes[0]) * self._share)
            seen = [
                window.seen(box.asnumpy()[:count])
                for window, box in zip(self._windows[site], boxes, strict=True)
            ]
            known = self.found.moments.get(site.weight, 0)
            self.found.moments[site.weight] = known + site.moments(np.stack(seen))

    def _widen(self, name: str, low: F4, high: F4) -> None:
        """Smallest and largest values, of each channel or of all."""
        found, last = self.found, self._moving.get(name)
        if last is not None:
            known = found.extremes.get(last, (low, high))
            found.extremes[last] = np.minimum(known[0], low), np.maximum(known[1], high)
        least, most = found.ranges.get(name, (np.inf, -np.inf))
        found.ranges[name] = min(least, float(low.min())), max(most, float(high.max()))

    def _read(self, array: mx.nd.NDArray) -> F4:
        if self._room.size < array.size:
            self._room = np.empty(array.size, np.float32)
        values = self._room[: array.size].reshape(array.shape)
        place, size = values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.size)
        check_call(_LIB.MXNDArraySyncCopyToCPU(array.handle, place, size))
        return values


def _cut_out(array: mx.nd.NDArray, first: tuple[int, int], last: tuple[int, int]) -> mx.nd.NDArray:
    """(N,C,h,w) pixels between two corners."""
    return mx.nd.slice(array, begin=(0, 0, *first), end=(*array.shape[:2], *last))


def _largest(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """(N,C,1,1) largest values of each channel."""
    return mx.nd.Pooling(array, pool_type="max", global_pool=True, kernel=(1, 1))


def _negative(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """A convolution keeps the layout."""
    channels = array.shape[1]
    weight = -mx.nd.ones((channels, 1, 1, 1))
    how = {"num_filter": channels, "num_group": channels, "kernel": (1, 1), "no_bias": True}
    return mx.nd.Convolution(array, weight, **how)
