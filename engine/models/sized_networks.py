"""One network for pictures of many sizes, of which few are bound at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import prod

import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import give_back
from shardcam.engine.models.memory import CPU_PASS
from shardcam.engine.models.mxnet_network import BoundNetwork
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from shardcam.engine.models.open_size import OpenSize
from shardcam.engine.models.precision import FP32
from shardcam.engine.protocols import ForwardPass, Inputs, Network
from shardcam.engine.types import F4, U1, LayerInfo, Quantization

HELD = 4  # networks that stay bound: as many as there are scales, usually
HELD_PIXELS = 1 << 22  # of all their passes: ResNet-50 takes some 300 bytes for each
USUAL = 224 * 224  # pixels of a picture, of which `CPU_PASS` for each thread go together
GPU_PASS = 32  # of the same on a GPU
MOST_ROWS = 64


def rows_for(height: int, width: int, threads: int = 1, gpu: bool = False) -> int:
    """How many pictures of a size go through the network at once, mirrored copies counted."""
    return min(max(_pass_pixels(threads, gpu) // (height * width), 1), MOST_ROWS)


def held_pixels(held: int, threads: int = 1, gpu: bool = False) -> int:
    """Pixels of the passes of so many networks, beyond which fewer of them stay bound."""
    return max(held * _pass_pixels(threads, gpu), HELD_PIXELS)


def _pass_pixels(threads: int, gpu: bool) -> int:
    return USUAL * (GPU_PASS if gpu else CPU_PASS * threads)


class SizedNetworks:
    """A network that takes pictures of any size, one size at a time.

    Parameters
    ----------
    build
        Binds the network for (height, width, rows).
    size
        Height and width that `layers` are told at.
    threads
        Of the CPU.
    gpu
        Whether it computes on one.
    held
        How many networks stay bound, fewer of large pictures (`held_pixels`): the one that was
        used longest ago goes first.
    whole
        Whether a network is always bound for as many pictures as it takes, as methods want that
        run it on changed ones. Else for the next power of two: so many are computed, whatever is
        in their places.
    """

    def __init__(
        self,
        build: Callable[[int, int, int], Network],
        size: tuple[int, int],
        threads: int = 1,
        gpu: bool = False,
        held: int = HELD,
        whole: bool = False,
    ) -> None:
        self._build, self._threads, self._gpu, self._held = build, threads, gpu, held
        self._whole, self._pixels = whole, held_pixels(held, threads, gpu)
        self._bound: OrderedDict[tuple[int, int, int], Network] = OrderedDict()
        self.on_pass: Callable[[], None] = lambda: None
        first = self._at(*size, 1)
        self.layers: tuple[LayerInfo, ...] = first.layers
        self.buffers = first.buffers

    def rows_for(self, height: int, width: int) -> int:
        """The most pictures of this size that `forward` takes."""
        return rows_for(height, width, self._threads, self._gpu)

    def forward(self, images: F4 | U1 | Inputs) -> ForwardPass:
        """Begin a pass over images of one size; see `engine.protocols.Network`."""
        if not isinstance(images, np.ndarray):
            raise TypeError("images of many sizes are arrays")
        height, width = images.shape[1:3] if images.dtype == np.uint8 else images.shape[2:4]
        return self._at(height, width, len(images)).forward(images)

    def _at(self, height: int, width: int, count: int) -> Network:
        """The network for so many pictures of a size, bound if need be.

        The number of rows it has depends on nothing else: what it computes must not, either.
        """
        most = self.rows_for(height, width)
        rows = most if self._whole else min(1 << (count - 1).bit_length(), most)
        size = height, width, rows
        if size not in self._bound:
            self._make_room(prod(size))
            network = self._build(*size)
            network.on_pass = lambda: self.on_pass()
            self._bound[size] = network
        self._bound.move_to_end(size)
        return self._bound[size]

    def _make_room(self, pixels: int) -> None:
        while self._bound and (
            len(self._bound) >= self._held or sum(map(prod, self._bound)) + pixels > self._pixels
        ):
            self._bound.popitem(last=False)
            give_back()

    def let_go(self) -> None:
        """Hold no network: what is asked for next is bound anew."""
        self._bound.clear()
        give_back()


def bind_sizes(
    network: OpenSize,
    layers: tuple[str, ...],
    precision: str = FP32,
    quantization: Quantization | None = None,
    gpu: bool = False,
    extra_layers: tuple[str, ...] = (),
    threads: int = 1,
    buffers: int = 1,
    attention: tuple[str, ...] = (),
    held: int = HELD,
    whole: bool = False,
) -> SizedNetworks:
    """Pass pictures of any size through a network on MXNet; its weights are on the device once.

    Parameters
    ----------
    network
        The network.
    layers, precision, quantization, gpu, extra_layers, attention
        See `engine.models.mxnet_programs.MxnetPrograms`.
    threads, buffers, held, whole
        See `SizedNetworks` and `engine.models.mxnet_network.BoundNetwork`.
    """

    @lru_cache(held)
    def programs(variant: NetworkDefinition) -> MxnetPrograms:
        return MxnetPrograms(variant, layers, precision, quantization, gpu, extra_layers, attention)

    def build(height: int, width: int, rows: int) -> Network:
        own = replace(network.own.preprocessing, height=height, width=width)
        return BoundNetwork(programs(network.variant(height, width)), own, rows, rows, buffers)

    own = network.own.preprocessing
    return SizedNetworks(build, (own.height, own.width), threads, gpu, held, whole)
