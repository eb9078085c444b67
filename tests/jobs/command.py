"""Run the command as a person does, and look at what it wrote with plain h5py."""

import logging
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from html import unescape
from pathlib import Path
from tempfile import TemporaryFile

import h5py
import numpy as np
import pytest

from shardcam.engine.workers.threads import limit_threads

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "tests" / "fixtures" / "run-0.1.0" / "model" / "small-symbol.json"
LOCAL = ("--executor", "local")
SMALL = ("--model", CHECKPOINT, "--image-size", 32)  # a network in no time, where numbers are free


def start(*arguments, cwd=None, program=("-m", "shardcam")):
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


def shardcam_process(*arguments, cwd=None):
    """As `shardcam`, but in a process of its own: for Ray, and where the process is the point."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def shardcam(*arguments, cwd=None):
    """Run ``shardcam ...`` in this process; return exit code, output, error output."""
    from shardcam.jobs.cli import main

    threads = int(os.environ["OMP_NUM_THREADS"])
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(cwd or ROOT)
        patch.setattr(sys, "argv", ["shardcam", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.setattr(logging.getLogger("shardcam.kernels"), "propagate", True)  # as it was
        out, err = (stack.enter_context(TemporaryFile("w+")) for _ in range(2))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        with moved(1, out), moved(2, err), pytest.raises(SystemExit) as ended:
            main()
        limit_threads(threads)
        for file in (out, err):
            file.seek(0)
        return ended.value.code, out.read(), err.read()


@contextmanager
def moved(descriptor, file):
    """What C libraries write goes there, too."""
    saved = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        file.flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def words_of(page):
    """The text of a page, whose options are not broken at their hyphens."""
    return unescape(re.sub(r'<span class="whole">(.*?)</span>', r"\1", Path(page).read_text()))


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
