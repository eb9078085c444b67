"""Where the images of a pass are put."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from shardcam.engine.models.normalise import in_floats
from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, U1, Preprocessing


class InputBuffer:
    """The network's input on its device.

    Parameters
    ----------
    rows
        Images of a pass; fewer are filled up with zeros.
    preprocessing
        Of the network.
    device
        Where it computes.
    device_normalises
        Pixels go there as they are, a quarter of the bytes, and are normalised there; else they
        are on their way, into memory that stays in the cache.
    """

    def __init__(
        self, rows: int, preprocessing: Preprocessing, device: mx.Context, device_normalises: bool
    ) -> None:
        shape = rows, *preprocessing.input_shape
        self.data = mx.nd.zeros(shape, device)  # (rows,channels,H,W)
        self._filled = np.zeros(shape, np.float32)
        self._preprocessing = preprocessing
        self._device_normalises = device_normalises
        if device_normalises:
            self._mean = _per_channel(preprocessing.mean, device)
            self._std = _per_channel(preprocessing.std, device)

    def put(self, images: F4 | U1 | Inputs) -> None:
        """Up to `rows` images, as `engine.protocols.Network` takes them.

        Waits until a pass that reads the buffer has ended.
        """
        count, filled = len(images), self._filled
        if self._device_normalises and isinstance(images, np.ndarray) and images.dtype == np.uint8:
            self._put_pixels(images.astype(np.uint8, copy=False))
            return
        in_floats(images, self._preprocessing, filled[:count])
        filled[count:] = 0
        self.data[:] = filled

    def _put_pixels(self, pixels: U1) -> None:
        missing = len(self.data) - len(pixels)
        if missing:
            blank = np.zeros((missing, *pixels.shape[1:]), np.uint8)
            pixels = np.concatenate([pixels, blank])
        there = mx.nd.array(pixels, self.data.ctx, dtype=np.uint8)
        planes = mx.nd.transpose(there, (0, 3, 1, 2)).astype(np.float32)
        mx.nd.broadcast_div(mx.nd.broadcast_sub(planes, self._mean), self._std, out=self.data)


def _per_channel(values: tuple[float, ...], device: mx.Context) -> mx.nd.NDArray:
    return mx.nd.array(np.array(values, np.float32)[None, :, None, None], device)
