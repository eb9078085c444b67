"""From pixels, or whatever else there is, to what a network is given."""

from __future__ import annotations

import numpy as np

from shardcam.engine.protocols import Inputs
from shardcam.engine.types import F4, U1, Preprocessing
from shardcam.kernels import planar


def normalised(pixels: U1, preprocessing: Preprocessing, out: F4 | None = None) -> F4:
    """(N,H,W,channels) -> (N,channels,H,W): what the mean is taken from and the deviation divides.

    Parameters
    ----------
    pixels
        As `stacked` makes them.
    preprocessing
        Of the network.
    out
        Where the result is put.
    """
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    if out is None:
        out = np.empty((len(pixels), *preprocessing.input_shape), np.float32)
    for image, picture in zip(out, pixels, strict=True):
        if len(mean) == 3:
            planar(picture, mean, std, image)
        else:
            image[:] = ((picture - mean) / std).transpose(2, 0, 1)
    return out


def in_floats(given: F4 | U1 | Inputs, preprocessing: Preprocessing, out: F4 | None = None) -> F4:
    """What `engine.protocols.Network` takes -> (N,channels,H,W), in `out` if that is given."""
    if isinstance(given, np.ndarray) and given.dtype == np.uint8:
        return normalised(given.astype(np.uint8, copy=False), preprocessing, out)
    if isinstance(given, np.ndarray) and out is None:
        return given.astype(np.float32, copy=False)
    if out is None:
        out = np.empty((len(given), *preprocessing.input_shape), np.float32)
    if isinstance(given, np.ndarray):
        out[:] = given
    else:
        given.write(out)
    return out
