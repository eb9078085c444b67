"""``--target-mask``: the pixels over which the scores of a segmentation network are summed."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.io.urls import is_url
from shardcam.engine.types import F4, U1

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition


@dataclass(frozen=True)
class PixelMask:
    """What each pixel of a network's maps counts."""

    weights: F4  # (h,w), 0 to 1: the share of the pixel that the mask covers
    digest: str  # SHA-256 of the file it is from


def mask_of(config: RunConfig, definition: NetworkDefinition) -> PixelMask | None:
    """The mask that ``--target-mask`` names, if it names one, as the network's maps lie.

    It is fitted to the network's input as the images are, and averaged over each pixel of the
    maps.

    Raises
    ------
    ConfigError
        The file cannot be read, nothing of it is seen, the network gives no class for each
        pixel, or images are to be mirrored.
    """
    if config.target_mask is None:
        return None
    if definition.prediction is None:
        raise ConfigError(
            f"--target-mask: {definition.name} gives no class for each pixel; leave it out"
        )
    if "aug" in config.smooth:
        raise ConfigError("--target-mask: --smooth aug mirrors images, but no mask; leave one out")
    import cv2

    from shardcam.engine.models.model_files import read_model_file
    from shardcam.engine.models.segmentation import maps_size
    from shardcam.engine.pictures.image_header import UndecodableImage
    from shardcam.engine.pictures.imaging import view

    path = Path(config.target_mask)
    if is_url(config.target_mask):
        raise ConfigError(f"--target-mask {config.target_mask}: takes a file, not a URL")
    try:
        data = read_model_file(path)
        read = _array if path.suffix == ".npy" else _picture
        stored = read(data, config)
        black_around = replace(definition.preprocessing, mean=(0.0,) * 3)
        seen = view(np.repeat(255 * stored[..., None], 3, axis=2), black_around).pixels[..., 0]
    except ModelError as error:
        raise ConfigError(f"--target-mask: {error}") from error
    except (UndecodableImage, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"--target-mask {path}: {reason}") from error
    height, width = maps_size(definition)
    covered = seen.astype(np.float32) / 255
    weights = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    if not weights.any():
        raise ConfigError(
            f"--target-mask {path}: is black wherever the network looks (see --resize)"
        )
    return PixelMask(weights.astype(np.float32), hashlib.sha256(data).hexdigest())


def _picture(data: bytes, config: RunConfig) -> U1:
    """(H,W) of 0 and 1. Of a JPEG file what is black beside white is not quite."""
    from shardcam.engine.pictures.decode_image import decode
    from shardcam.engine.pictures.image_header import header_of

    pixels = decode(data, config.decoding).pixels
    if (form := header_of(data).form) != "PNG":
        raise ValueError(f"is a {form} file; a mask is PNG or .npy, which keep black as it is")
    return np.asarray(pixels.any(axis=2), np.uint8)


def _array(data: bytes, config: RunConfig) -> U1:
    """(H,W) of 0 and 1."""
    from shardcam.engine.pictures.decode_image import picture_of

    try:
        stored = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's parser of headers raises many things
        raise ValueError(f"no array of numbers: {error}") from error
    if stored.ndim != 2 or not stored.size or stored.dtype.kind not in "buif":
        raise ValueError(f"holds {stored.dtype} {stored.shape}; a mask is (H,W) of numbers")
    if np.isnan(stored).any():
        raise ValueError("holds NaN, which is neither 0 nor not")
    return picture_of(np.asarray(stored != 0, np.uint8), config.decoding).pixels
