"""The maps of one layer of pictures at their own sizes: each map has its own, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from shardcam.engine.analysis.maps import PlacedMaps
from shardcam.engine.analysis.stored_rows import (
    CLOSED,
    Array,
    Part,
    Positions,
    Rows,
    ShardRows,
    by_shard,
    positions,
    read_rows,
    read_span,
)
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.one_map import STRIDE, one_map
from shardcam.engine.rundir.overlays import OverlayStyle
from shardcam.engine.rundir.own_datasets import Unsound, dataset_of
from shardcam.engine.rundir.result_rows import cell_counts
from shardcam.engine.rundir.schema import Form
from shardcam.engine.rundir.shard_index import copies_of
from shardcam.engine.types import F4, NO_CLASS, Copies, GridMaps
from shardcam.kernels import heatmap_u8, normalize

_MOST = 1 << 24  # cells of a map


class RaggedRows:
    """N arrays (K,h,w) of different h and w, read when asked for.

    ``[3]`` is the array of a sample, ``[3, 0]`` one map of it; ``[10:20]``, ``[[7, 2]]`` and
    ``[mask]`` are lists of them, and ``[10:20, 0]`` is one of maps. NumPy takes it for one array
    where all are of one size.

    Parameters
    ----------
    shape
        N and K.
    read
        From the positions of samples to their arrays.
    """

    def __init__(self, shape: tuple[int, ...], read: Callable[[Positions], list[F4]]) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype, self.read = np.dtype(np.float32), read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """Read some samples.

        Raises
        ------
        IndexError
            A number is out of range, or something is not an index.
        RunDirectoryError
            The file is damaged there.
        StoreError
            It cannot be read now.
        """
        first, *rest = (index or (slice(None),)) if isinstance(index, tuple) else (index,)
        for part in rest[:1]:
            positions(part, self.shape[1], "places on axis 1")
        wanted = positions(first, len(self), "samples")
        found = [one[tuple(rest)] for one in self.read(np.atleast_1d(wanted))]
        return found if wanted.ndim else found[0]

    def __array__(self, dtype: Any = None) -> Array:
        return np.asarray(self[:], dtype)


class GridRows(RaggedRows, PlacedMaps):
    """(N,K) float32 signed maps of one layer, in the network's own unit, each of its own size.

    The map of a picture at one scale is what is stored; of several scales it is the sum of the
    rectified maps, enlarged to a quarter of the picture's height and width. `grids` has those of
    each scale. Maps are NaN where there is no class to explain.

    Parameters
    ----------
    layer
        As datasets name it.
    stored, grid
        The maps of each scale, and how large each is.
    crop, image_size
        Of each sample: the view in the picture's pixels, the picture's height and width.
    style
        How the run draws heatmaps over pictures.
    """

    def __init__(
        self,
        layer: str,
        stored: StoredGrids,
        grid: Rows,
        crop: Rows,
        image_size: Rows,
        style: OverlayStyle,
    ) -> None:
        def shown(rows: Positions) -> list[tuple[F4, F4]]:
            views = self.view_sizes(rows).tolist()
            found = (one_map(*each) for each in zip(stored.read(rows), views, strict=True))
            return [(one.normalized[0], one.scale[0]) for one in found]

        def read(rows: Positions) -> list[F4]:
            return [maps * scale[:, None, None] for maps, scale in shown(rows)]

        super().__init__((len(grid), stored.explained), read)
        self._normalized = RaggedRows(self.shape, lambda rows: [one for one, _ in shown(rows)])
        self._layer, self._stored, self._grid = layer, stored, grid
        self._crop, self._image_size, self._style = crop, image_size, style

    def grids(self, rows: Any) -> Any:
        """Of a sample the raw maps (K,h,w) of each scale, NaN where there is no class.

        Of several samples a list of them.
        """
        wanted = positions(rows, len(self), "samples")
        found = [_raw(grids) for grids in self._stored.read(np.atleast_1d(wanted))]
        return found if wanted.ndim else found[0]

    @property
    def scales(self) -> tuple[float, ...]:
        """At which sizes pictures were explained, as factors of their own."""
        return self._stored.copies.scales

    def view_sizes(self, rows: Any) -> Any:
        """(n,2) height and width, in pixels, of what the network saw of some samples at scale 1."""
        crop = self._crop[rows]
        return np.rint(crop[..., 2:] - crop[..., :2]).astype(np.int64)

    def normalized(self) -> RaggedRows:
        """Of each sample (K,h,w) float32, from 0 to 1: `kernels.normalize` of the maps."""

        def read(rows: Positions) -> list[F4]:
            return [normalize(np.ascontiguousarray(one)) for one in self._normalized.read(rows)]

        return RaggedRows(self.shape, read)

    def heatmap(self, size: tuple[int, int]) -> Rows:
        """(N,K,H,W) uint8, levels 0 to 255: `kernels.heatmap_u8` of the maps.

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

        def read(rows: Positions, part: Part) -> Array:
            maps = (np.ascontiguousarray(one) for one in self._normalized.read(rows))
            levels = np.array([heatmap_u8(one, size) for one in maps], np.uint8)
            return levels.reshape(len(rows), self.shape[1], *size)[:, part]

        return Rows((*self.shape, *size), np.uint8, read)

    def one_size(self, what: str, otherwise: str = "one picture at a time") -> tuple[int, int]:
        """Height and width of all maps.

        `otherwise` is what can be done in place of `what`.

        Raises
        ------
        ConfigError
            They differ, and `what` can use only one size.
        """
        single = self._grid.shape[1] == 1
        every = self._grid[:, 0] if single else -(-self.view_sizes(slice(None)) // STRIDE)
        sizes = np.unique(every, axis=0).tolist()
        if len(sizes) > 1:
            smallest, largest = (f"{height}x{width}" for height, width in (sizes[0], sizes[-1]))
            raise ConfigError(
                f"{what}: takes maps of one size; those of {self._layer} have {len(sizes)}, "
                f"{smallest} to {largest}, as their pictures do (--resize none): take pictures of "
                f"one size, or {otherwise}"
            )
        height, width = sizes[0] if sizes else (1, 1)  # of no picture
        return height, width

    def grouped(self, rows: Any) -> Iterator[tuple[Positions, F4]]:
        """Some samples by the size of their pictures: which of them, and (n,K,h,w) their maps."""
        views, maps = self.view_sizes(rows), self[rows]
        places: dict[tuple[int, ...], list[int]] = {}
        for place, (view, one) in enumerate(zip(views.tolist(), maps, strict=True)):
            places.setdefault((*view, *one.shape), []).append(place)
        for group in places.values():
            yield np.array(group), np.stack([maps[place] for place in group])


class StoredGrids:
    """Reads the maps of chosen samples, cell by cell one after another in the shards.

    Parameters
    ----------
    file
        Index or shard, which must be open.
    layer
        As datasets name it.
    forms
        The shapes and types of the run's datasets.
    shards, chosen, within
        As `engine.analysis.stored_rows.column`.
    """

    def __init__(
        self,
        file: h5py.File,
        layer: str,
        forms: Mapping[str, Form],
        shards: tuple[ShardRows, ...],
        chosen: Positions | None,
        within: bool,
    ) -> None:
        self._file, self._layer, self._forms = file, f"cam/{layer}", forms
        self._shards, self._chosen, self._within = shards, chosen, within
        self.explained = forms["target"][0][0]

    @cached_property
    def copies(self) -> Copies:
        """What the maps are of."""
        with self._opened(self._shards[0]) as file:
            return copies_of(dataset_of(file, f"{self._layer}/cells"))

    def read(self, rows: Positions) -> list[GridMaps]:
        """(n,) positions -> the maps of each, N being 1; their scales are NaN without a class."""
        wanted = rows if self._chosen is None else self._chosen[rows]
        found: dict[int, GridMaps] = {}
        for shard, places in by_shard(self._shards, wanted):
            there, inside = shard.stop - shard.start, wanted[places] - shard.start
            with self._opened(shard) as file:
                found |= zip(places.tolist(), self._of_shard(file, there, inside), strict=True)
        return [found[place] for place in range(len(wanted))]

    @contextmanager
    def _opened(self, shard: ShardRows) -> Iterator[h5py.File]:
        if not self._file:
            raise ValueError(CLOSED)
        if not self._within:
            with reading(shard.path) as file:
                yield file
            return
        try:
            yield self._file
        except Unsound as error:
            raise RunDirectoryError(f"{shard.path}: unreadable ({error})") from error

    def _of_shard(self, file: h5py.File, there: int, rows: Positions) -> Iterator[GridMaps]:
        names = "target", f"{self._layer}/grid"
        target, grid = (self._column(file, name, there, np.arange(there)) for name in names)
        if grid.astype(np.int64).prod(axis=2).max(initial=0) > _MOST:
            raise Unsound(f"{self._layer}/grid has sizes that no map has")
        scale = self._column(file, f"{self._layer}/scale", there, rows)
        cells = dataset_of(file, f"{self._layer}/cells")
        counts = cell_counts(target, grid)
        if (every := int(counts.sum())) != len(cells):
            raise Unsound(f"{self._layer}/cells has {len(cells)} cells, not {every}")
        begins = np.cumsum(counts) - counts
        at = 0
        for block in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            first, last = begins[block[0]], begins[block[-1]] + counts[block[-1]]
            values = read_span(cells, (slice(first, last),))
            for row in block.tolist():
                start = begins[row] - first
                own = values[start : start + counts[row]]
                yield _maps(own, target[row] != NO_CLASS, grid[row], scale[at])
                at += 1

    def _column(self, file: h5py.File, name: str, there: int, rows: Positions) -> Array:
        return read_rows(file, name, self._forms[name], there, rows)


def _maps(cells: Array, explained: Array, grid: Array, scale: F4) -> GridMaps:
    """The cells of an image's classes that are explained -> its maps, N being 1."""
    areas = grid.prod(axis=1)
    rows = cells.reshape(-1, areas.sum()).astype(np.float32)
    maps = []
    for part, size in zip(np.split(rows, areas.cumsum()[:-1], axis=1), grid.tolist(), strict=True):
        whole = np.zeros((1, len(explained), *size), np.float32)
        whole[0, explained] = part.reshape(-1, *size)
        maps.append(whole)
    known = np.where(explained[:, None], scale, np.float32(np.nan))
    return GridMaps(tuple(maps), known[None])


def _raw(grids: GridMaps) -> tuple[F4, ...]:
    """(K,h,w) of each scale."""
    scales = np.moveaxis(grids.scale[0], 1, 0)[..., None, None]
    return tuple(maps[0] * scale for maps, scale in zip(grids.normalized, scales, strict=True))
