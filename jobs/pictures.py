"""The pictures behind the rows of a run, read again from its source."""

from __future__ import annotations

import numpy as np

from engine.analysis.run import Run
from engine.config import RunConfig
from engine.errors import SourceError
from engine.imaging import UndecodableImage, pixels_of
from engine.listing import Listing
from engine.types import F4, U1
from jobs.listing import make_reader


class SeenPictures:
    """What the network saw of each picture, in the picture's own pixels."""

    def __init__(self, run: Run, listing: Listing, config: RunConfig) -> None:
        self._run, self._listing, self._max_pixels = run, listing, config.max_pixels
        self._reader = make_reader(config)

    def __getitem__(self, i: int) -> U1:
        """Of row `i`: (height,width,3) RGB, white where the network's view leaves the picture.

        Raises
        ------
        SourceError
            The source has lost it since.
        """
        number = int(self._run["sample"][i])
        (sample,) = self._listing.read(number, number + 1)
        try:
            picture = pixels_of(self._reader.read(sample), self._max_pixels)
        except (OSError, UndecodableImage) as error:
            raise SourceError(f"{sample.key}: cannot be read any more: {error}") from error
        return seen_part(picture, self._run["crop"][i])


def seen_part(pixels: U1, crop: F4) -> U1:
    """The part of a picture that the network saw."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = (round(float(v)) for v in crop)
    part = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    rows, columns = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
    return np.pad(part, (rows, columns, (0, 0)), constant_values=255)
