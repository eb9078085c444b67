"""The maps of one layer: raw, from 0 to 1, as heatmaps, on the original pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from shardcam.engine.analysis.placement import place
from shardcam.engine.analysis.stored_rows import Array, Part, Positions, Rows
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.types import F4, U1
from shardcam.kernels import heatmap_u8, normalize

_READ_AHEAD = 64  # samples whose maps are read at once


class PlacedMaps:
    """What maps of pictures can do, whether they are of one size or each of its own."""

    shape: tuple[int, ...]  # N, K and, of maps of one size, h and w
    _normalized: Any  # the maps, without their unit
    _crop: Rows
    _image_size: Rows
    _style: OverlayStyle

    def __len__(self) -> int:
        return self.shape[0]

    def _require_target(self, target: int) -> None:
        """Refuse a number that is not that of an explained class.

        Raises
        ------
        IndexError
            There are not so many.
        """
        explained = self.shape[1]
        if not -explained <= target < explained:
            raise IndexError(f"target {target}: {explained} explained of each sample, from 0")

    def on_original(self, i: int, target: int = 0) -> U1:
        """(height,width) uint8: the heatmap on the pixels of the original picture.

        Right for every ``--resize``; 0 where the network saw nothing of the picture. See
        `engine.analysis.placement.place`. The picture is as decoded, its EXIF
        orientation applied.
        """
        return self._placed(i, target)[0]

    def each_on_original(self, target: int = 0) -> Iterator[U1]:
        """`on_original` of each sample in turn; memory holds one picture, and a few maps."""
        for first in range(0, len(self), _READ_AHEAD):
            rows = slice(first, first + _READ_AHEAD)
            maps = self._normalized[rows, target]
            for row in zip(maps, self._crop[rows], self._image_size[rows], strict=True):
                yield place(*row)[0]

    def overlay(
        self,
        i: int,
        picture: U1,
        target: int = 0,
        alpha: float | None = None,
        colormap: str | None = None,
    ) -> U1:
        """(height,width,3) -> (height,width,3), uint8 RGB: the heatmap over the original picture.

        What the network did not see stays as it is.

        Parameters
        ----------
        i, target
            The sample, and which of its targets.
        picture
            The original picture.
        alpha
            The heatmap's share, 0 to 1; None: the run's ``--alpha``.
        colormap
            jet, viridis, inferno or turbo; None: the run's ``--colormap``.

        Raises
        ------
        ConfigError
            There is no such colormap.
        ValueError
            The picture is not of the sample's size or type, or `alpha` is outside 0 to 1.
        """
        alpha = self._style.alpha if alpha is None else alpha
        colours = colour_table(colormap or self._style.colormap)
        levels, seen = self._placed(i, target)
        if picture.shape != (*levels.shape, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"picture: expected uint8 {(*levels.shape, 3)}, height and width as stored in "
                f"image_size, got {picture.dtype} {picture.shape}; is its EXIF orientation applied?"
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: expected a number from 0 to 1, got {alpha}")
        heat, rest = np.float32(alpha) * colours.astype(np.float32), np.float32(1 - alpha)
        out = picture.copy()
        for row, below in zip(levels[seen], out[seen], strict=True):
            below[:] = heat[row] + rest * below
        return out

    def _placed(self, i: int, target: int) -> tuple[U1, tuple[slice, slice]]:
        return place(self._normalized[i, target], self._crop[i], self._image_size[i])


class RawMaps(Rows, PlacedMaps):
    """(N,K,h,w) float32 signed maps of one layer, in the network's own unit.

    Parameters
    ----------
    normalized, scale
        What is stored: maps in [-1,1] and their scales, raw = normalized * scale.
    crop, image_size
        Of each sample: the view in the picture's pixels, the picture's height and width.
    style
        How the run draws heatmaps over pictures.
    """

    def __init__(
        self, normalized: Rows, scale: Rows, crop: Rows, image_size: Rows, style: OverlayStyle
    ) -> None:
        def read(rows: Positions, part: Part) -> Array:
            raw = normalized.read(rows, part).astype(np.float32)
            raw *= scale.read(rows, part)[..., None, None]
            return raw

        super().__init__(normalized.shape, np.float32, read)
        self._normalized, self._style = normalized, style
        self._crop, self._image_size = crop, image_size

    def normalized(self) -> Rows:
        """(N,K,h,w) float32, from 0 to 1: `kernels.normalize` of the stored maps."""
        return self._mapped(self.shape[2:], np.float32, normalize)

    def heatmap(self, size: tuple[int, int]) -> Rows:
        """(N,K,H,W) uint8, levels 0 to 255: `kernels.heatmap_u8` of the stored maps.

        Parameters
        ----------
        size
            H and W, in pixels.

        Raises
        ------
        ValueError
            A size is not positive.
        """
        if min(size) < 1:
            raise ValueError(f"size: expected positive numbers, got {size}")
        return self._mapped(tuple(size), np.uint8, lambda maps: heatmap_u8(maps, size))

    def one_size(self, what: str, otherwise: str = "") -> tuple[int, int]:
        """Height and width of all maps."""
        height, width = self.shape[2:]
        return height, width

    def grouped(self, rows: Any) -> Iterator[tuple[Positions, F4]]:
        """Some samples as one group, if any: which of them, all, and (n,K,h,w) their maps."""
        if len(maps := self[rows]):
            yield np.arange(len(maps)), maps

    def _mapped(self, size: tuple[int, ...], dtype: type, function: Callable[[F4], Array]) -> Rows:
        def read(rows: Positions, part: Part) -> Array:
            maps = self._normalized.read(rows, part).astype(np.float32, order="C")
            return function(maps.reshape(-1, *self.shape[2:])).reshape(*maps.shape[:-2], *size)

        return Rows((*self.shape[:2], *size), dtype, read)
