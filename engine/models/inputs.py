"""Where the images of a pass are put."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from engine.types import F4, U1, Preprocessing


class InputBuffer:
    """The network's input on its device; pixels are normalised there.

    Parameters
    ----------
    rows
        Images of a pass; fewer are filled up with zeros.
    preprocessing
        Of the network.
    device
        Where it computes.
    """

    def __init__(self, rows: int, preprocessing: Preprocessing, device: mx.Context) -> None:
        self.data = mx.nd.zeros((rows, *preprocessing.input_shape), device)  # (rows,channels,H,W)
        self._mean = _per_channel(preprocessing.mean, device)
        self._std = _per_channel(preprocessing.std, device)

    def put(self, images: F4 | U1) -> None:
        """Up to `rows` images, as :class:`engine.protocols.Network` takes them.

        Waits until a pass that reads the buffer has ended, but pixels are put aside first.
        """
        missing = len(self.data) - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        if images.dtype != np.uint8:
            self.data[:] = images
            return
        pixels = mx.nd.array(images, self.data.ctx, dtype=np.uint8)
        planes = mx.nd.transpose(pixels, (0, 3, 1, 2)).astype(np.float32)
        mx.nd.broadcast_div(mx.nd.broadcast_sub(planes, self._mean), self._std, out=self.data)


def _per_channel(values: tuple[float, ...], device: mx.Context) -> mx.nd.NDArray:
    return mx.nd.array(np.array(values, np.float32)[None, :, None, None], device)
