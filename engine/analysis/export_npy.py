"""Raw maps as one NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from numpy.lib.format import write_array_header_1_0

from shardcam.engine.io.whole_file import whole_file

if TYPE_CHECKING:
    from shardcam.engine.analysis.samples import Samples


def write_npy(samples: Samples, path: Path, layer: str, target: int) -> int:
    """Write raw maps (N,h,w) float32, shard by shard; ``np.load(path, mmap_mode="r")`` maps it.

    Row i is that of sample i. Nothing but one shard's maps is held; a file of that name is
    replaced when all is written.

    Returns
    -------
    int
        N.

    Raises
    ------
    ConfigError
        The layer has no maps.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    maps = samples.cam(layer)
    shape = maps[:0, target].shape[1:]
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(samples), *shape)}
    with whole_file(path) as stream:
        write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
        for shard in samples.shards():
            stream.write(shard.cam(layer)[:, target].astype("<f4", copy=False).tobytes())
    return len(samples)
