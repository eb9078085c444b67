"""HDF5 reads through us while another thread must go on, whatever it comes upon."""

import gc
import threading

import h5py

from shardcam.engine.io import files
from shardcam.engine.io import remote_file as streams


def test_no_thread_meets_an_object_of_h5py_in_the_garbage_while_hdf5_waits(tmp_path, monkeypatch):
    for name in ("read.h5", "lost.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["rows"] = range(100)
    data, stuck = (tmp_path / "read.h5").read_bytes(), []

    def allocate():
        assert [[] for _ in range(5000)]  # more than the collector waits for

    def read_range(path, offset, length):
        other = threading.Thread(target=allocate, daemon=True)
        other.start()
        other.join(10)
        stuck.append(other.is_alive())
        return data[offset : offset + length]

    monkeypatch.setattr(files, "size", lambda path: len(data))
    monkeypatch.setattr(files, "read_range", read_range)
    gc.collect()
    lost = [h5py.File(tmp_path / "lost.h5")]
    lost.append(lost)
    del lost
    with h5py.File(streams.Blocks("s3://bucket/read.h5")) as file:
        assert file["rows"][:].tolist() == list(range(100))
    assert stuck and not any(stuck)
    assert gc.isenabled()
