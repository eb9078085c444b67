"""How a chunk is compressed, and how HDF5 is set up to read it.

The chunks are packed here and not by HDF5, which copies them several times and has no
faster zlib. What is stored is what its own filters read. There is no byte shuffle: it makes
the files of ReLU activations, which are zero in long runs, a third larger and takes half the
speed; of logits it would save 7 %.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError, needs
from shardcam.kernels import fletcher32

PLAIN = ("none", "gzip")  # every HDF5 reads these
CODECS = (*PLAIN, "zstd", "lz4")

U1 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Codec:
    """A compressor of chunks."""

    name: str
    filters: dict[str, Any]  # arguments of h5py's create_dataset
    compress: Callable[[U1], bytes] | None  # None: chunks stay as they are

    def pack(self, chunk: U1, spare: U1) -> U1:
        """Return a chunk as the file holds it: compressed, the checksum behind it.

        Parameters
        ----------
        chunk : (B + 4,) uint8
            The values, byte by byte, and room for the checksum.
        spare : (S,) uint8
            The result is a part of it, or of `chunk`. New memory would cost more than all
            the rest but the compression: 0.3 ms of page faults for 512 KB.
        """
        if self.compress is None:
            packed = chunk
        else:
            content = np.frombuffer(self.compress(chunk[:-4]), np.uint8)
            size = len(content) + 4
            packed = (spare if len(spare) >= size else np.empty(size, np.uint8))[:size]
            packed[:-4] = content
        packed[-4:] = np.frombuffer(struct.pack("<I", fletcher32(packed[:-4])), np.uint8)
        return packed


def codec(name: str) -> Codec:
    """Return the codec of one of the names in `CODECS`; a checksum goes with each.

    gzip is level 1 of Intel's library, zstd level 1.

    Raises
    ------
    ConfigError
        The codec's libraries are not installed.
    """
    require(name)
    filters, compress = _KNOWN[name]()
    return Codec(name, {**filters, "fletcher32": True}, compress)


def require(name: str) -> None:
    """Make sure that files of this codec can be written and read.

    Raises
    ------
    ConfigError
        Its libraries are not installed.
    """
    try:
        _KNOWN[name]()
    except ImportError:
        raise ConfigError(
            f"--codec {name} {needs('hdf5plugin', _COMPRESSORS[name])}; or use --codec gzip"
        ) from None


_Parts = tuple[dict[str, Any], Callable[[U1], bytes] | None]


def _none() -> _Parts:
    return {}, None


def _gzip() -> _Parts:
    from isal import isal_zlib

    return (
        {"compression": "gzip", "compression_opts": 1},
        lambda chunk: isal_zlib.compress(chunk, 1),
    )


def _zstd() -> _Parts:
    import hdf5plugin
    import zstandard

    # A compressor may not be shared by threads; a new one takes 9 us.
    return (
        dict(hdf5plugin.Zstd(clevel=1)),
        lambda chunk: zstandard.ZstdCompressor(level=1).compress(chunk),
    )


def _lz4() -> _Parts:
    import hdf5plugin
    import lz4.block

    def compress(chunk: U1) -> bytes:
        packed: bytes = lz4.block.compress(chunk, store_size=False)
        size = len(chunk)
        if len(packed) >= size:  # the filter takes a block of full size as it is
            packed = chunk.tobytes()
        return struct.pack(">QII", size, size, len(packed)) + packed

    return dict(hdf5plugin.LZ4()), compress


_COMPRESSORS = {"zstd": "zstandard", "lz4": "lz4"}
_KNOWN: dict[str, Callable[[], _Parts]] = {
    "none": _none,
    "gzip": _gzip,
    "zstd": _zstd,
    "lz4": _lz4,
}
