"""Where the images of a pass are put, on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shardcam.engine.models.normalise import normalised
from shardcam.engine.models.torch.torch_device import on_device
from shardcam.engine.types import F4, U1, Preprocessing


class PixelBuffer:
    """The network's input in float32; images that a pass lacks are filled up.

    To a GPU pixels go as they are, a quarter of the bytes, from pinned memory, and are
    normalised there.
    """

    def __init__(self, rows: int, preprocessing: Preprocessing, device: torch.device) -> None:
        self._rows, self._preprocessing = rows, preprocessing
        self._like = torch.zeros((), device=device)
        self._pinned: Tensor | None = None
        self._taken: torch.cuda.Event | None = None  # the pinned pixels are on the device
        if device.type == "cuda":
            channels, height, width = preprocessing.input_shape
            shape = rows, height, width, channels
            self._pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
            self._mean, self._std = (
                on_device(np.array(values, np.float32), self._like)
                for values in (preprocessing.mean, preprocessing.std)
            )

    def put(self, images: F4 | U1 | Tensor) -> Tensor:
        """Up to `rows` images -> (rows,channels,H,W), its values in the order N,H,W,C."""
        if isinstance(images, Tensor):
            return self._filled(on_device(images, self._like))
        if images.dtype != np.uint8:
            return self._filled(on_device(images.astype(np.float32, copy=False), self._like))
        pixels = images.astype(np.uint8, copy=False)
        if self._pinned is None:
            return self._filled(torch.from_numpy(normalised(pixels, self._preprocessing)))
        return self._normalised_there(pixels, self._pinned)

    def _normalised_there(self, pixels: U1, pinned: Tensor) -> Tensor:
        if self._taken is not None:
            self._taken.synchronize()
        staged = pinned.numpy()
        staged[: len(pixels)] = pixels
        staged[len(pixels) :] = 0
        there = pinned.to(self._like.device, non_blocking=True)
        self._taken = torch.cuda.Event()
        self._taken.record()
        return ((there.float() - self._mean) / self._std).permute(0, 3, 1, 2)

    def _filled(self, images: Tensor) -> Tensor:
        shape = self._rows, *images.shape[1:]
        filled = torch.empty(shape, device=images.device, memory_format=torch.channels_last)
        filled[: len(images)] = images
        filled[len(images) :] = 0
        return filled
