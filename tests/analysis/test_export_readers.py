"""Exports read by faiss, Zarr and FiftyOne themselves, in an environment that has them."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from shardcam import export
from tests.analysis.runs import LAST, MAP

READERS = os.environ.get("SHARDCAM_READERS")  # a Python with them; see the Makefile
pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(READERS is None, reason="make test-all has the programs"),
]


def read(script, folder):
    script = Path(__file__).with_name(script)
    done = subprocess.run([READERS, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_read_what_is_exported_to_them(made, run, tmp_path, monkeypatch):
    monkeypatch.setattr("shardcam.engine.analysis.feature_rows._PART_BYTES", 5 * 4 * 4)
    monkeypatch.setattr("shardcam.engine.analysis.export_zarr._CHUNK_BYTES", 5 * 4 * 4)
    export.faiss(run, tmp_path / "faiss", LAST)
    export.zarr(run, tmp_path / "zarr", LAST)
    keys = dict(zip(made.rows["sample"].tolist(), run.keys))
    export.fiftyone(
        run, tmp_path / "fiftyone", MAP,
        names="class {}".format, paths=lambda number: f"/photos/{keys[number]}",
    )  # fmt: skip
    np.savez(
        tmp_path / "truth.npz",
        pooled=made.rows[f"pooled/{LAST}"],
        label=made.rows["label"],
        keys=np.array(run.keys),
        shown=made.rows["flags"] == 0,
    )
    assert read("read_exports.py", tmp_path) == "read\n"
