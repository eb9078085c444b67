"""How the datasets of a shard are compressed."""

from __future__ import annotations

from typing import Any

from engine.errors import ConfigError

PLAIN = ("none", "gzip")  # every HDF5 reads these
CODECS = (*PLAIN, "zstd", "lz4")


def filters(codec: str) -> dict[str, Any]:
    """Arguments of h5py's `create_dataset`; a checksum goes with every codec.

    gzip is level 1 after a byte shuffle, zstd level 3 after one, lz4 goes with a bit shuffle.

    Raises
    ------
    ConfigError
        The codec needs hdf5plugin, which is not installed.
    """
    if codec == "none":
        return {"fletcher32": True}
    if codec == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
    require(codec)
    import hdf5plugin

    if codec == "zstd":
        return {**hdf5plugin.Zstd(clevel=3), "shuffle": True, "fletcher32": True}
    return {**hdf5plugin.Bitshuffle(cname="lz4"), "fletcher32": True}


def require(codec: str) -> None:
    """Make sure that files of this codec can be written and read.

    Raises
    ------
    ConfigError
        hdf5plugin is not installed.
    """
    if codec in PLAIN:
        return
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"--codec {codec} needs hdf5plugin: pip install 'shardcam[codecs]', or take gzip"
        ) from None
