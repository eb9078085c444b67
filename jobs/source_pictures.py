"""The pictures behind the rows of a run, read again from its source, and parts cut out of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from threading import Lock
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import SourceError
from shardcam.engine.io.urls import is_url
from shardcam.engine.pictures.decode_image import picture_of
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.pictures.jpeg import REDUCTIONS
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.types import U1, Box, Preprocessing, Sample

WHITE, GREY = 255, 127  # for what lies outside of a picture
_LARGEST = 1 << 26  # pixels of a part that is cut out


class PictureGone(SourceError):
    """The source has lost a picture, or has another one in its place; `reason` says which."""

    exit_code = 1  # what was given was right once

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} cannot be read any more: {reason}")
        self.reason = reason


class SourcePictures:
    """The pictures of a run's source. Threads may share it.

    Parameters
    ----------
    listing
        The run's.
    config
        The options of the run.

    Raises
    ------
    ShardcamError
        The source cannot be opened.
    """

    def __init__(self, listing: Listing, config: RunConfig) -> None:
        self._listing, self._config = listing, config
        self._reader, self._lock = make_reader(config), Lock()

    def read(self, samples: Samples, i: int, enough: int | None = None) -> U1:
        """Read the whole picture of a row: (height,width,3) RGB.

        With `enough`, a JPEG file is decoded no larger than is needed for so many pixels on
        its shorter side: a tenth of the time for large files.

        Raises
        ------
        PictureGone
            It is missing, cannot be decoded, or has another size than it had.
        """
        image_size = samples["image_size"][i]
        with self._read(samples, i) as (place, _, data):
            picture = picture_of(data, self._config.decoding, enough).pixels
        reductions = (1,) if enough is None else REDUCTIONS
        if not any((-(-image_size // by) == picture.shape[:2]).all() for by in reductions):
            raise _changed(place, image_size)
        return picture

    def view(self, samples: Samples, i: int, preprocessing: Preprocessing) -> U1:
        """Read what the network saw of a row, before it was scaled: (H,W,3) RGB.

        Raises
        ------
        PictureGone
            As `read`.
        """
        with self._read(samples, i) as (place, sample, data):
            view = view_of(data, sample.box, preprocessing, self._config.decoding)
        if not (np.array(view.image_size) == samples["image_size"][i]).all():
            raise _changed(place, samples["image_size"][i])
        return view.pixels

    @contextmanager
    def _read(self, samples: Samples, i: int) -> Iterator[tuple[str, Sample, bytes | U1]]:
        """What a row's picture is called, and its bytes, to be decoded inside."""
        number = int(samples["sample"][i])
        with self._lock:  # memory holds one encoded picture
            found = self._listing.read(number, number + 1)
            if not found:
                raise PictureGone(self._config.source, f"the listing has no sample {number}")
            (sample,) = found
            place = f"{self._config.source}: its picture {sample.key!r}"
            if not self._may_ask(sample.location):
                raise PictureGone(place, f"it is at {sample.location}, not at the source")
            try:
                yield place, sample, self._reader.read(sample)
            except (OSError, UndecodableImage) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise PictureGone(place, reason) from error

    def _may_ask(self, location: str) -> bool:
        """Whether a picture is on this machine, or on the server that the run's options name.

        A listing can come from anywhere, and would make this machine ask any server.
        """
        named = filter(None, (self._config.source, self._config.root))
        return not is_url(location) or any(_server(one) == _server(location) for one in named)


def _changed(place: str, image_size: npt.NDArray[Any]) -> PictureGone:
    height, width = image_size.tolist()
    return PictureGone(place, f"the picture has changed: it was {width}x{height} pixels")


def _server(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    return scheme, rest.partition("/")[0]


def cut(
    pixels: U1, box: Box | npt.NDArray[Any], outside: int, size: tuple[int, int] | None = None
) -> U1:
    """Cut a box (top, left, bottom, right) out of a picture, which it may reach beyond.

    Parameters
    ----------
    pixels
        (height,width,3).
    outside
        The grey level of what lies outside of the picture.
    size
        Height and width of the result; None: whole pixels as they are, at least one, or
        larger ones where those would be too many.
    """
    y0, x0, y1, x1 = (float(edge) for edge in box)
    if size is None:
        y0, x0 = round(y0), round(x0)
        y1, x1 = max(round(y1), y0 + 1), max(round(x1), x0 + 1)
        size = int(y1 - y0), int(x1 - x0)
        if size[0] * size[1] > _LARGEST:  # as of a long and narrow picture, padded
            share = sqrt(_LARGEST / (size[0] * size[1]))
            height, width = (min(max(int(side * share), 1), _LARGEST) for side in size)
            size = height, width
    out: U1 = np.full((*size, 3), outside, np.uint8)
    height, width = pixels.shape[:2]
    if y1 <= 0 or x1 <= 0 or y0 >= height or x0 >= width:
        return out
    (top, bottom, y, h), (left, right, x, w) = (
        _inside(y0, y1, height, size[0]),
        _inside(x0, x1, width, size[1]),
    )
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    shrinking = h < part.shape[0] or w < part.shape[1]
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    out[y : y + h, x : x + w] = cv2.resize(part, (w, h), interpolation=how)
    return out


def _inside(start: float, stop: float, size: int, length: int) -> tuple[int, int, int, int]:
    """The part of an interval inside of a picture, and where it lies in a result; one pixel each.

    Returns
    -------
    first, last
        Pixels of the picture.
    at, count
        Pixels of the result, of `length`.
    """
    first = min(max(round(start), 0), size - 1)
    last = min(max(round(stop), first + 1), size)
    scale = length / (stop - start)
    at = min(max(round((first - start) * scale), 0), length - 1)  # rounded down, it is before 0
    return first, last, at, min(max(round((last - first) * scale), 1), length - at)
