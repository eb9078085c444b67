"""Small pictures of a run: what the network saw, and where it looked."""

from __future__ import annotations

from base64 import b64encode
from threading import Lock
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ShardcamError
from shardcam.engine.pipeline.imaging import REDUCTIONS, UndecodableImage, decode
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import F4, U1
from shardcam.kernels import heatmap_u8

SIZE = 224  # pixels of the longer side
FORM = "image/webp"
_QUALITY = 75
_OUTSIDE = 127  # gray level where the view reaches beyond the picture


class NoPhotograph(Exception):
    """A photograph that is not to be had; the message says why."""


class Photographs:
    """The photographs of a run, read again from its source.

    Threads may share it.

    Parameters
    ----------
    run_dir
        The run directory.
    config
        The options of the run.
    """

    def __init__(self, run_dir: RunDir, config: RunConfig) -> None:
        self.missing: str | None = None  # why there are none at all
        self._max_pixels, self._lock = config.max_pixels, Lock()
        try:
            self._listing, self._reader = Listing(run_dir.listing), make_reader(config)
        except ShardcamError as error:
            self.missing = f"There are no photographs: {error}"

    def view(self, samples: Samples, i: int) -> U1:
        """(H,W,3) what the network saw of a photograph, in the photograph's proportions.

        Raises
        ------
        NoPhotograph
            It cannot be read, or is another than it was.
        """
        if self.missing is not None:
            raise NoPhotograph(self.missing)
        number, crop = int(samples["sample"][i]), samples["crop"][i]
        image_size = samples["image_size"][i]
        try:
            with self._lock:  # memory holds one of them
                (sample,) = self._listing.read(number, number + 1)
                data = self._reader.read(sample)
                if isinstance(data, bytes):
                    data = self._decode(data, crop, image_size)
        except OSError as error:
            raise NoPhotograph(error.strerror or str(error)) from error
        except (UndecodableImage, ShardcamError) as error:
            raise NoPhotograph(str(error)) from error
        size = data.shape[:2]
        if not any((-(-image_size // by) == size).all() for by in REDUCTIONS):
            height, width = image_size.tolist()
            raise NoPhotograph(f"it is another picture now: it was {width}x{height} pixels")
        reduced = np.asarray(size) / image_size
        return cut(data, crop * np.tile(reduced, 2), view_size(crop))

    def _decode(self, data: bytes, crop: F4, image_size: npt.NDArray[np.int32]) -> U1:
        """No larger than is needed: a tenth of the time for large JPEG files."""
        share = min(image_size) / max(crop[2] - crop[0], crop[3] - crop[1])
        return decode(data, self._max_pixels, int(np.ceil(SIZE * share)))


def view_size(crop: F4) -> tuple[int, int]:
    """Height and width of the small picture of a view."""
    y0, x0, y1, x1 = crop.tolist()
    scale = SIZE / max(y1 - y0, x1 - x0)
    return max(round((y1 - y0) * scale), 1), max(round((x1 - x0) * scale), 1)


def cut(pixels: U1, crop: npt.NDArray[Any], size: tuple[int, int]) -> U1:
    """The part of a picture in a box, of a given size, gray where the box reaches beyond it."""
    height, width = pixels.shape[:2]
    (y0, x0, y1, x1), (rows, columns) = crop.tolist(), size
    top, bottom = _inside(y0, y1, height)
    left, right = _inside(x0, x1, width)
    down, across = rows / (y1 - y0), columns / (x1 - x0)
    y, x = round((top - y0) * down), round((left - x0) * across)
    y, x = min(y, rows - 1), min(x, columns - 1)
    h = min(max(round((bottom - top) * down), 1), rows - y)
    w = min(max(round((right - left) * across), 1), columns - x)
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    out: U1 = np.full((rows, columns, 3), _OUTSIDE, np.uint8)
    shrinking = h < part.shape[0] or w < part.shape[1]
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    out[y : y + h, x : x + w] = cv2.resize(part, (w, h), interpolation=how)
    return out


def _inside(start: float, stop: float, size: int) -> tuple[int, int]:
    first = min(max(round(start), 0), size - 1)
    return first, min(max(round(stop), first + 1), size)


def draw_heatmap(samples: Samples, i: int, layer: str, target: int, colours: U1) -> bytes:
    """The heatmap of a sample as a file; `colours` is (256,3) RGB of each level."""
    size = view_size(samples["crop"][i])
    return encode(colours[samples.cam(layer).heatmap(size)[i, target]])


def draw_mean(mean: npt.NDArray[np.float64], colours: U1) -> bytes:
    """The mean map of a class as a file, in such colours too."""
    height, width = mean.shape
    scale = SIZE / 2 / max(height, width)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    return encode(colours[heatmap_u8(mean[None].astype(np.float32), size)[0]])


def encode(pixels: U1) -> bytes:
    """(H,W,3) RGB as a WebP file."""
    quality = [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
    _, data = cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    return data.tobytes()


def data_uri(picture: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:{FORM};base64,{b64encode(picture).decode()}"
