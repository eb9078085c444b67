"""Where the images of a pass are put, on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shardcam.engine.models.normalise import in_floats
from shardcam.engine.models.torch.torch_device import on_device
from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, U1, Preprocessing


class PixelBuffer:
    """The network's input in float32, in one place for all passes.

    To a GPU pixels go as they are, a quarter of the bytes, and are normalised there: from where
    they are if that memory is locked (`torch_device.lock_pages`), else by way of some that is.

    Parameters
    ----------
    rows
        Images of a pass; fewer are filled up with zeros.
    preprocessing
        Of the network.
    device
        Where it computes.
    """

    def __init__(self, rows: int, preprocessing: Preprocessing, device: torch.device) -> None:
        channels, height, width = preprocessing.input_shape
        places = torch.zeros((rows, height, width, channels), device=device)
        self.data = places.permute(0, 3, 1, 2)  # (rows,channels,H,W), the channels last in memory
        self._places, self._preprocessing = places, preprocessing
        self._pinned: Tensor | None = None
        self._source: Tensor | None = None  # of the copy that was asked for last
        self._taken: torch.cuda.Event | None = None  # it is done
        self._mean, self._std = (
            on_device(np.array(values, np.float32), places)
            for values in (preprocessing.mean, preprocessing.std)
        )
        if device.type == "cuda":
            self._pinned = torch.zeros(places.shape, dtype=torch.uint8, pin_memory=True)

    def put(self, images: F4 | U1 | Inputs | Tensor) -> None:
        """Up to `rows` images, as `engine.protocols.Network` takes them, or a tensor of such."""
        count = len(images)
        pinned = self._pinned
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            if images.is_cuda:  # they may be of another stream, which would use their memory again
                images.record_stream(torch.cuda.current_stream(images.device))
            self._normalise(images)
            return
        if pinned is not None and isinstance(images, np.ndarray) and images.dtype == np.uint8:
            self._put_pixels(images.astype(np.uint8, copy=False), pinned)
            return
        if not isinstance(images, Tensor):
            images = in_floats(images, self._preprocessing)
        self.data[:count] = on_device(images, self.data)
        self.data[count:] = 0

    def _put_pixels(self, pixels: U1, pinned: Tensor) -> None:
        if self._taken is not None:
            self._taken.synchronize()
        self._source = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if not self._source.is_pinned():
            pinned[: len(pixels)] = self._source
            self._source = pinned[: len(pixels)]
        there = self._source.to(self.data.device, non_blocking=True)
        self._taken = torch.cuda.Event()
        self._taken.record()
        self._normalise(there)

    def _normalise(self, pixels: Tensor) -> None:
        """(N,H,W,channels) bytes on the device."""
        count = len(pixels)
        torch.div(pixels.float().sub_(self._mean), self._std, out=self._places[:count])
        self._places[count:] = 0
