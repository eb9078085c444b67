"""Run the command as a person does, and look at what it wrote with plain h5py."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).parent.parent.parent


def start(*arguments, cwd=None, program=("-m", "jobs")):
    """Start ``shardcam ...`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def shardcam(*arguments, cwd=None):
    """Run ``shardcam ...``; return exit code, output, error output."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def contents(run):
    """Every dataset of a run's index, read whole."""
    found = {}
    with h5py.File(Path(run) / "index.h5") as index:
        index.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "dtype") else None
        )
    return found


def assert_same(first, second):
    """Two runs hold the same rows, to the byte."""
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
