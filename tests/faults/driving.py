"""A small source and model, disks that fail, and a person who repeats the command."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
import numpy as np

ROOT = Path(__file__).parent.parent.parent
SIZE = 8  # of an image, height and width
COMMANDS = 30  # that a person gives before giving up


def make_source(folder, images):
    pixels = np.random.RandomState(0).randint(0, 256, (images, SIZE, SIZE, 3)).astype(np.uint8)
    np.save(folder / "images.npy", pixels)
    return folder / "images.npy"


def make_model(folder):
    """Two convolutions and a dense layer over all of the map: the gradient takes a backward."""
    x = mx.sym.var("data")
    for name in ("a", "b"):
        x = mx.sym.Convolution(x, name=name, num_filter=4, kernel=(3, 3), pad=(1, 1))
        x = mx.sym.Activation(x, name=f"{name}_relu", act_type="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=5)
    shapes, _, _ = x.infer_shape(data=(1, 3, SIZE, SIZE))
    random = np.random.RandomState(1)
    values = {
        f"arg:{name}": mx.nd.array(random.normal(0, 0.3, shape))
        for name, shape in zip(x.list_arguments(), shapes)
        if name != "data"
    }
    x.save(str(folder / "tiny-symbol.json"))
    mx.nd.save(str(folder / "tiny-0000.params"), values)
    return folder / "tiny-symbol.json"


def start(faults, *arguments):
    """Start ``shardcam ...`` with faulty workers, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.command", *map(str, (faults, *arguments))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def shards_of(run):
    return len(list((run / "shards").glob("*.h5")))


def wait_for_shards(run, more, seconds=300.0):
    least, end = shards_of(run) + more, time.monotonic() + seconds
    while shards_of(run) < least:
        assert time.monotonic() < end, f"no {more} shards more within {seconds} s"
        time.sleep(0.1)


class Person:
    """Repeats the same command until it exits with 0."""

    def __init__(self, faults, run, *arguments):
        self.run = run
        self._command = (faults, "extract", *arguments, "--out", run)
        self.codes, self.output = [], ""

    def once(self, meanwhile=lambda process: None):
        """Give the command; `meanwhile` is done while it runs. Its exit code and output."""
        output = []
        with start(*self._command) as process:
            reader = threading.Thread(target=lambda: output.extend(process.stdout))
            reader.start()
            try:
                meanwhile(process)
                process.wait(900)
            finally:
                process.kill()
            reader.join()
        self.codes.append(process.returncode)
        self.output += "".join(output)
        return process.returncode, "".join(output)

    def until(self, act, shards=2):
        """Repeat it until it has done so many shards and `act` has happened to it."""
        happened = []

        def meanwhile(process):
            before = shards_of(self.run)
            while process.poll() is None and shards_of(self.run) < before + shards:
                time.sleep(0.05)
            if process.poll() is None:
                happened.append(True)
                act(process)

        for _ in range(COMMANDS):
            code, out = self.once(meanwhile)
            if happened:
                return code, out
        raise AssertionError(f"never: {self.codes}\n{out}")

    def until_done(self):
        for _ in range(COMMANDS):
            code, out = self.once()
            if code == 0:
                return
        raise AssertionError(f"not done: {self.codes}\n{out}")


@contextmanager
def read_only(folder):
    """Mount a folder over itself, so that nothing can be written below it."""
    subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def small_disk(folder, megabytes):
    """A file system of its own for a new folder."""
    folder.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Take all the room there is on its disk, but that of a shard or two."""
    disk = os.statvfs(folder)
    (folder / "ballast").write_bytes(bytes(max(disk.f_bavail * disk.f_frsize - 100_000, 0)))


def may_mount():
    """Whether this user may mount file systems here."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True
        )
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0
