"""What the codecs pack is what HDF5 reads, and what it finds damaged."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.rundir import codec as codecs
from shardcam.engine.rundir.codec import CODECS, codec
from shardcam.engine.rundir.column import Column, create_column
from shardcam.engine.rundir.schema import DatasetSpec

RANDOM = np.random.default_rng(0)
ROWS = {
    "ReLU": np.maximum(RANDOM.standard_normal((300, 70, 7), np.float32), 0),
    "zeros": np.zeros((300, 70, 7), np.float32),
    "noise": RANDOM.integers(0, 2**32, (300, 70, 7), np.uint32).view(np.float32),
    "few": np.ones((1, 1), np.float32),
    "texts": np.array([f"größe/{i}".encode() for i in range(300)]),
}


def store(path, rows, name, dtype=None, room=None):
    """Write rows as the sink does, 50 at a time, into a dataset that could hold more."""
    spec = DatasetSpec("x", rows.shape[1:], dtype or rows.dtype.str[1:], "N", "unit")
    with h5py.File(path, "w") as file:
        room = room or len(rows) + 9
        create_column(file, spec, room, room, codec(name))
        column = Column(file["x"], room, codec(name))
        for start in range(0, len(rows), 50):
            part = rows[start : start + 50]
            column.append(part, len(part))
        column.finish()
    return path


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", CODECS)
def test_hdf5_reads_what_was_packed(tmp_path, name, rows):
    """Noise does not become smaller: lz4 then stores it as it is."""
    with h5py.File(store(tmp_path / "x.h5", rows, name)) as file:
        assert file["x"].shape == rows.shape
        assert file["x"][:].tobytes() == rows.tobytes()
        assert file["x"].fletcher32
        filters = file["x"].id.get_create_plist()
        assert filters.get_nfilters() == (1 if name == "none" else 2)


@pytest.mark.parametrize("name", CODECS)
def test_a_flipped_bit_anywhere_in_a_chunk_is_found(tmp_path, name):
    path = store(tmp_path / "x.h5", ROWS["ReLU"][:20], name)
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(0)
    content = path.read_bytes()
    for at in RANDOM.integers(0, place.size, 40):
        damaged = bytearray(content)
        damaged[place.byte_offset + at] ^= 1 << RANDOM.integers(8)
        path.write_bytes(damaged)
        with h5py.File(path) as file, pytest.raises(OSError):
            file["x"][:]


def test_half_precision_is_that_of_numpy(tmp_path):
    """To the nearest, ties to even; too small, too large, not a number."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves.view(np.uint32)[:, None] + np.array([0, 0xFFF, 0x1000, 0x1001], np.uint32)).T
    rows = np.ascontiguousarray(between).view(np.float32).reshape(-1, 64)
    with np.errstate(over="ignore"):
        expected = rows.astype(np.float16)
    with h5py.File(store(tmp_path / "x.h5", rows, "none", "f2")) as file:
        np.testing.assert_array_equal(file["x"][:], expected)


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    def missing():
        raise ImportError("no lz4")

    monkeypatch.setitem(codecs._KNOWN, "lz4", missing)
    with pytest.raises(ConfigError, match=r"--codec lz4 needs hdf5plugin and lz4: .* codecs;"):
        codec("lz4")
