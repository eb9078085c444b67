"""Small pictures of a run: what the network saw, and where it looked."""

from __future__ import annotations

from base64 import b64encode

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ShardcamError
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import F4, U1
from shardcam.jobs.source_pictures import GREY, PictureGone, SourcePictures, cut
from shardcam.kernels import heatmap_u8

SIZE = 224  # pixels of the longer side
FORM = "image/webp"
_QUALITY = 75


class NoPhotograph(Exception):
    """A photograph that is not to be had; the message says why."""


class Photographs:
    """The photographs of a run, as small pictures of what the network saw.

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
        try:
            run_dir.fetch(run_dir.listing)
            self._pictures = SourcePictures(Listing(run_dir.listing), config)
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
        crop, image_size = samples["crop"][i], samples["image_size"][i]
        share = min(image_size) / max(crop[2] - crop[0], crop[3] - crop[1])
        try:
            picture = self._pictures.read(samples, i, int(np.ceil(SIZE * share)))
        except PictureGone as error:
            raise NoPhotograph(error.reason) from error
        except ShardcamError as error:
            raise NoPhotograph(str(error)) from error
        reduced = np.asarray(picture.shape[:2]) / image_size
        return cut(picture, crop * np.tile(reduced, 2), GREY, view_size(crop))


def view_size(crop: F4) -> tuple[int, int]:
    """Height and width of the small picture of a view."""
    y0, x0, y1, x1 = crop.tolist()
    scale = SIZE / max(y1 - y0, x1 - x0)
    return max(round((y1 - y0) * scale), 1), max(round((x1 - x0) * scale), 1)


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
