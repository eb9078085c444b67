"""The pictures behind the rows of a run, read again from its source."""

from __future__ import annotations

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import SourceError
from shardcam.engine.pipeline.imaging import UndecodableImage, pixels_of
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.types import F4, U1


class SeenPictures:
    """What the network saw of each picture, in the picture's own pixels."""

    def __init__(self, run: Run, listing: Listing, config: RunConfig) -> None:
        self._run, self._listing, self._config = run, listing, config
        self._reader = make_reader(config)

    def __getitem__(self, i: int) -> U1:
        """Of row `i`: (height,width,3) RGB, white where the network's view leaves the picture.

        Raises
        ------
        SourceError
            See `whole`.
        """
        return seen_part(self.whole(i), self._run["crop"][i])

    def whole(self, i: int) -> U1:
        """The picture of row `i`, all of it: (height,width,3) RGB.

        Raises
        ------
        SourceError
            The source has lost it since, or has another picture in its place.
        """
        number = int(self._run["sample"][i])
        (sample,) = self._listing.read(number, number + 1)
        place = f"{self._config.source}: its picture {sample.key!r}"
        try:
            picture = pixels_of(self._reader.read(sample), self._config.max_pixels)
        except (OSError, UndecodableImage) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{place} cannot be read any more: {reason}") from error
        height, width = self._run["image_size"][i].tolist()
        if picture.shape[:2] != (height, width):
            raise SourceError(f"{place} is another one now: it was {width}x{height} pixels")
        return picture


def seen_part(pixels: U1, crop: F4) -> U1:
    """The part of a picture that the network saw."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = (round(float(v)) for v in crop)
    part = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    rows, columns = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
    return np.pad(part, (rows, columns, (0, 0)), constant_values=255)
