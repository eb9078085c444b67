"""Raw maps as one NumPy file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib.format import write_array_header_1_0

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import whole_file


def npy(samples: Samples, path: str | Path, layer: str, target: int = 0) -> int:
    """Write raw maps (N,h,w) float32, shard by shard; ``np.load(path, mmap_mode="r")`` maps it.

    Row i is that of sample i. Memory holds one shard's maps; a file of that name is
    replaced when all is written.

    Returns
    -------
    int
        N.

    Raises
    ------
    ConfigError
        The layer has no maps, or maps of several sizes.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    maps = samples.cam(layer)
    maps._require_target(target)
    shape = (len(samples), *maps.one_size("npy", "a file of each (--to irn, --to psa)"))
    parts = (np.asarray(shard.cam(layer)[:, target]) for shard in samples.shards())
    with whole_file(Path(path)) as stream:
        write_array(stream, shape, parts)
    return len(samples)


def write_array(
    stream: BinaryIO, shape: tuple[int, ...], parts: Iterable[npt.NDArray[Any]]
) -> None:
    """Write a float32 array of that shape whose rows come in parts, as ``np.save`` would."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
    for part in parts:
        stream.write(part.astype("<f4", copy=False).tobytes())
