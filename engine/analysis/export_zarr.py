"""A run as a Zarr group, format 2, which needs no package to be written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.feature_rows import MAPS, FeatureRows, feature_rows
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import make_folder, whole_file

_CHUNK_BYTES = 1 << 24
_LEVEL = 1  # of zlib, as of a run's files
_COLUMNS = {  # of samples, and what their axes are called
    "key": ("sample",),
    "sample": ("sample",),
    "label": ("sample",),
    "flags": ("sample",),
    "target": ("sample", "target"),
    "score": ("sample", "target"),
    "top_class": ("sample", "top"),
    "top_score": ("sample", "top"),
    "image_size": ("sample", "height_width"),
    "crop": ("sample", "edge"),
}


def zarr(
    samples: Samples,
    folder: str | Path,
    layer: str | None = None,
    of: str | None = None,
    target: int = 0,
    keep: bool = False,
) -> int:
    """Write a Zarr group of format 2, which Zarr 2 and 3 and ``xarray.open_zarr`` read.

    An array for each dataset of samples that a run has (``key``, ``label``, ``score``, ...), and
    one called ``pooled``, ``activations`` or ``maps`` with the features as float32, whose
    attribute ``layer`` says of which layer they are. Chunks are whole files of some 16 MB,
    compressed by zlib. For the parameters see `thingsvision`.
    """
    rows, place = feature_rows(samples, of, layer, target), Path(folder)
    make_folder(place)
    metadata: dict[str, Any] = {".zgroup": {"zarr_format": 2}}
    arrays = {name: _Array(samples[name], axes) for name, axes in _COLUMNS.items()}
    arrays[rows.of] = _Array(_Read(rows), ("sample", *_axes(rows)), {"layer": rows.layer})
    written = 0
    for name, array in arrays.items():
        make_folder(place / name)
        for number, chunk in enumerate(array.chunks):
            path = place / name / ".".join([str(number), *["0"] * (len(array.shape) - 1)])
            if not (keep and path.exists()):
                with whole_file(path) as stream:
                    stream.write(zlib.compress(array.bytes_of(*chunk), _LEVEL))
                written += 1
        for kind, entry in (".zarray", array.form), (".zattrs", array.attributes):
            metadata[f"{name}/{kind}"] = entry
    metadata[".zmetadata"] = {"zarr_consolidated_format": 1, "metadata": dict(metadata)}
    for name, entry in metadata.items():
        with whole_file(place / name) as stream:
            stream.write(json.dumps(entry, indent=1).encode())
    return written


def _axes(rows: FeatureRows) -> tuple[str, ...]:
    if rows.of == MAPS:
        return "y", "x"
    known = {1: ("channel",), 3: ("channel", "y", "x")}
    return known.get(len(rows.shape), tuple(f"axis_{k}" for k in range(1, len(rows.shape) + 1)))


class _Read:
    """Features as rows that are read when they are asked for."""

    def __init__(self, rows: FeatureRows) -> None:
        self._rows, self.dtype = rows, np.dtype("<f4")
        self.shape = (len(rows), *rows.shape)

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        return self._rows.read(part.start, part.stop)


class _Array:
    """Rows of samples, and what Zarr wants to know of them."""

    def __init__(
        self, rows: Any, axes: tuple[str, ...], more: dict[str, str] | None = None
    ) -> None:
        self._rows, self.shape = rows, rows.shape
        self.dtype = rows.dtype.newbyteorder("<")
        row_bytes = max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize)
        self._step = max(1, min(self.shape[0], _CHUNK_BYTES // row_bytes))
        self.attributes = {"_ARRAY_DIMENSIONS": list(axes), **(more or {})}

    @property
    def form(self) -> dict[str, Any]:
        """``.zarray``."""
        return {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": [self._step, *self.shape[1:]],
            "dtype": self.dtype.str,
            "compressor": {"id": "zlib", "level": _LEVEL},
            "fill_value": None,
            "order": "C",
            "filters": None,
        }

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """The rows of each."""
        return [(start, start + self._step) for start in range(0, self.shape[0], self._step)]

    def bytes_of(self, start: int, stop: int) -> bytes:
        """A chunk; what is beyond the last row is zero."""
        rows = np.zeros((stop - start, *self.shape[1:]), self.dtype)
        found = self._rows[start : min(stop, self.shape[0])]
        rows[: len(found)] = found
        return rows.tobytes()
