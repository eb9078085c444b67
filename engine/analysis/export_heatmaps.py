"""Pictures of where heatmaps are high: transparent heatmaps, and what is cut out of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.export_coco import NO_REGIONS
from shardcam.engine.analysis.export_files import Contents, Pictures, export_images
from shardcam.engine.analysis.placement import level_of
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.types import NO_CLASS, U1

PNG = ".png"


def heatmaps(
    samples: Samples,
    folder: str | Path,
    layer: str,
    target: int = 0,
    colormap: str | None = None,
    keep: bool = False,
) -> int:
    """Write a transparent PNG for each sample, to be laid over its picture.

    Each is of the original picture's size: RGB of the colour map, alpha the level of the heatmap,
    0 where the network saw nothing. Files are called as the pictures are. Samples whose map is not
    finite, all zero or constant, or of no class, have none.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer, target
        Whose maps, and which of the explained classes of each sample.
    colormap
        jet, viridis, inferno or turbo; None: the run's.
    keep
        Leave files that are there, which are whole.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ConfigError
        The layer has no maps, or there is no such colour map.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    samples.cam(layer)._require_target(target)
    files = HeatmapFiles(layer, target, colormap or samples.style.colormap)
    return export_images(samples, Path(folder), files, keep)


def crops(
    samples: Samples,
    folder: str | Path,
    layer: str,
    pictures: Pictures,
    threshold: float = 0.5,
    target: int = 0,
    keep: bool = False,
) -> int:
    """Cut the box around the largest high region of each heatmap out of its picture, as PNG.

    Files are called as the pictures are. Samples whose map is not finite, all zero or constant, or
    of no class, have none.

    Parameters
    ----------
    pictures
        From a shard of the samples and a position in it to the picture, (height,width,3) uint8
        RGB, of the size that the run's `image_size` says.
    threshold
        Share of the heatmap's range that counts as high, between 0 and 1, else ConfigError.

    For the others, and what is raised, see `heatmaps`.
    """
    samples.cam(layer)._require_target(target)
    files = CropFiles(layer, target, level_of(threshold))
    return export_images(samples, Path(folder), files, keep, pictures)


@dataclass(frozen=True)
class HeatmapFiles:
    """Transparent heatmaps of samples."""

    layer: str
    target: int
    colormap: str

    ending = PNG
    needs_pictures = False

    def made(self, shard: Samples, rows: Sequence[int], pictures: Pictures | None) -> Contents:
        """Row of a shard, and contents of its file, for each of some rows that has one."""
        colours = colour_table(self.colormap)
        for i, levels in _each(shard, self, rows):
            yield i, _png(np.dstack([colours[levels], levels]))


@dataclass(frozen=True)
class LevelFiles:
    """Heatmaps of samples as 8-bit grey."""

    layer: str
    target: int

    ending = PNG
    needs_pictures = False

    def made(self, shard: Samples, rows: Sequence[int], pictures: Pictures | None) -> Contents:
        """As `HeatmapFiles.made`."""
        for i, levels in _each(shard, self, rows):
            yield i, cv2.imencode(PNG, levels)[1].tobytes()


@dataclass(frozen=True)
class CropFiles:
    """What lies under the largest region of each heatmap that is high."""

    layer: str
    target: int
    level: int  # of the heatmap, from which it is high

    ending = PNG
    needs_pictures = True

    def made(self, shard: Samples, rows: Sequence[int], pictures: Pictures | None) -> Contents:
        """As `HeatmapFiles.made`; `pictures` reads that of a row."""
        assert pictures is not None
        for i, levels in _each(shard, self, rows):
            _, _, stats, _ = cv2.connectedComponentsWithStats((levels >= self.level).view(np.uint8))
            if len(stats) > 1:
                x, y, width, height, _ = max(stats[1:].tolist(), key=lambda region: region[4])
                yield i, _png(pictures(shard, i)[y : y + height, x : x + width])


def shows_nothing(samples: Samples, target: int) -> npt.NDArray[np.bool_]:
    """(N,) whether the map of a sample is not finite, all zero or constant, or of no class."""
    unusable = samples["flags"][:] & NO_REGIONS > 0
    nothing: npt.NDArray[np.bool_] = unusable | (samples["target"][:, target] == NO_CLASS)
    return nothing


def _each(
    shard: Samples, files: HeatmapFiles | LevelFiles | CropFiles, rows: Sequence[int]
) -> Iterator[tuple[int, U1]]:
    """Row and heatmap of each that has one, of some rows."""
    maps, unusable = shard.cam(files.layer), shows_nothing(shard, files.target)
    return ((i, maps.on_original(i, files.target)) for i in rows if not unusable[i])


def _png(pixels: U1) -> bytes:
    """Of RGB or RGBA."""
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(PNG, cv2.cvtColor(pixels, order))[1].tobytes()
