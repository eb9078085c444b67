"""Nothing that fails loses an image: many faults, and then the same rows as without them."""

import csv
import json
import os
import signal
import subprocess
import threading
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from engine.types import RunPaths
from tests.faults.driving import (
    add_node,
    make_model,
    make_source,
    may_mount,
    ray_cluster,
    read_only,
    shards_of,
    start,
    wait_until,
)
from tests.faults.inject import Fault, happened, write_plan

COMMANDS = 30  # that a person repeats before giving up


class Person:
    """Repeats the same command until it exits with 0."""

    def __init__(self, faults, *arguments):
        self._command = (faults, "extract", *arguments)
        self.codes, self.output = [], ""

    def run(self, meanwhile=lambda process: None):
        """Once; `meanwhile` is done while it runs."""
        process = start(*self._command)
        errors = []

        def act():
            try:
                meanwhile(process)
            except Exception as error:
                errors.append(error)
                process.kill()

        thread = threading.Thread(target=act)
        thread.start()
        out, _ = process.communicate(timeout=900)
        thread.join()
        assert not errors, (errors, out)
        self.codes.append(process.returncode)
        self.output += out
        return process.returncode, out

    def until_done(self):
        for _ in range(COMMANDS):
            code, out = self.run()
            if code == 0:
                return
        raise AssertionError(f"not done after {self.codes}:\n{out}")


@contextmanager
def small_disk(run, megabytes):
    """A file system of its own for the run directory."""
    run.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", run], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", run], check=True)


def fill(run):
    """Take all the room there is, but that of one shard or two."""
    free = os.statvfs(run).f_bavail * os.statvfs(run).f_frsize
    (run / "ballast").write_bytes(bytes(max(free - 100_000, 0)))


def rows(run):
    """Every sample's row, by key: its values of every dataset."""
    with h5py.File(run / "index.h5") as index:
        names = []
        index.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
        names = [name for name in names if not name.startswith("failure")]
        columns = {name: index[name][()] for name in names}
    order = np.argsort(columns["sample"])
    return {name: values[order] for name, values in columns.items()}


def failed(run):
    with (run / "failures.csv").open(newline="") as stream:
        return {int(row["sample"]): row["stage"] for row in csv.DictReader(stream)}


def check_same(run, undisturbed, poisoned, images, batch):
    """The account is closed, poisoned images alone are lost, and all others are the same."""
    report = json.loads((run / "report.json").read_text())
    assert report["listed"] == images == report["ok"] + report["failed"]
    assert failed(run) == dict.fromkeys(poisoned, "worker")
    found, expected = rows(run), rows(undisturbed)
    kept = ~np.isin(expected["sample"], sorted(poisoned))
    with_lost = {sample // batch for sample in poisoned}
    whole = ~np.isin(found["sample"] // batch, sorted(with_lost))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        values = values[kept]
        assert found[name][whole].tobytes() == values[whole].tobytes(), name
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    leftover = [path.name for path in RunPaths(run).staging.glob("*.h5")]
    assert not leftover


def undisturbed(folder, *arguments):
    write_plan(folder / "no-faults", [])
    run = folder / "undisturbed"
    person = Person(folder / "no-faults", *arguments, "--out", run, "--executor", "local")
    code, out = person.run()
    assert code == 0, out
    return run


def kill_driver(run, shards):
    """SIGKILL once so many shards are done; its workers are left to Ray."""

    def act(process):
        wait_until(lambda: process.poll() is not None or shards_of(run) >= shards)
        process.kill()

    return act


def test_a_short_run(tmp_path):
    """Workers that are killed, a bug and a killed driver, on a Ray of its own."""
    images, size, batch = 320, 16, 8
    source, model = make_source(tmp_path, images), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", size)
    options = (*options, "--batch-size", batch)
    before = undisturbed(tmp_path, *options)
    faults = [
        Fault("read", 20, "kill"),
        Fault("forward", 170, "error"),
        Fault("publish", 15, "kill"),
        Fault("published", 17, "kill"),
    ]
    write_plan(tmp_path / "faults", faults)
    run = tmp_path / "run"
    person = Person(tmp_path / "faults", *options, "--out", run, "--workers", 2)
    person.run(kill_driver(run, 4))
    person.until_done()
    assert person.codes == [-signal.SIGKILL, 0], person.output
    assert len(happened(tmp_path / "faults")) == len(faults)
    check_same(run, before, set(), images, batch)


IMAGES, SHARD, BATCH = 5000, 50, 10
KILLER, GLUTTON = 1234, 3456  # images that end their workers: by a signal, by memory
STAGES = ("read", "forward", "write", "publish", "published")  # where workers are killed


def many_faults():
    """One for each shard but every fifth; which shards stays free for what the test does."""
    free = iter(n for n in range(IMAGES // SHARD) if n not in (KILLER // SHARD, GLUTTON // SHARD))

    def at(place):
        shard = next(free)
        return shard * SHARD + 7 if place in ("read", "forward") else shard

    kinds = [(place, "kill") for _ in range(7) for place in STAGES]
    kinds += [(place, "error") for place in STAGES]
    kinds += [("forward", "hang"), ("write", "stop")]
    kinds += [(place, "slow") for place in STAGES]
    kinds += [("publish", "ENOSPC"), ("publish", "EROFS")] * 2
    kinds = [kinds[i] for i in np.random.RandomState(2).permutation(len(kinds))]
    faults = [Fault(place, at(place), kind) for place, kind in kinds]
    faults.append(Fault("forward", KILLER, "kill", always=True))
    faults.append(Fault("read", GLUTTON, "memory", always=True))
    return faults


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="may not mount file systems")
def test_a_long_run(tmp_path):
    """Five thousand images, more than sixty faults of every kind, on three nodes."""
    source, model = make_source(tmp_path, IMAGES), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", SHARD)
    options = (*options, "--batch-size", BATCH)
    before = undisturbed(tmp_path, *options)
    faults, run = tmp_path / "faults", tmp_path / "run"
    write_plan(faults, many_faults())
    done = []  # by the test itself, beside the plan

    with small_disk(run, 16), ray_cluster(nodes=2) as cluster:
        ray = ("--address", cluster.address, "--workers", 2, "--hang-timeout", 30)
        person = Person(faults, *options, "--out", run, *ray)

        def lose_node(_process):
            shards = shards_of(run)
            wait_until(lambda: shards_of(run) > shards + 2)
            (victim, *_) = cluster.worker_nodes
            cluster.remove_node(victim, allow_graceful=False)
            add_node(cluster)
            done.append("node lost")

        def fill_disk(_process):
            shards = shards_of(run)
            wait_until(lambda: shards_of(run) > shards + 1)
            fill(run)
            done.append("disk full")

        def write_protect(process):
            shards = shards_of(run)
            wait_until(lambda: shards_of(run) > shards + 1)
            with read_only(run / "shards"):
                done.append("read-only")
                process.wait(300)

        for _ in range(2):
            person.run(kill_driver(run, shards_of(run) + 6))
        person.run(lose_node)
        code, out = person.run(fill_disk)
        assert code == 5, out
        (run / "ballast").unlink()
        for _ in range(2):
            person.run(kill_driver(run, shards_of(run) + 6))
        code, out = person.run(write_protect)
        assert code == 1, out
        assert "Read-only file system" in out
        person.run(lose_node)
        for _ in range(2):
            person.run(kill_driver(run, shards_of(run) + 6))
        person.until_done()
        check_same(run, before, {KILLER, GLUTTON}, IMAGES, BATCH)
        done += ["driver killed"] * person.codes.count(-signal.SIGKILL)
        met = happened(faults)
        assert done.count("driver killed") == 6
        assert {name for name in met if name.count("-") == 2} == {
            f"{f.place}-{f.at}-{f.kind}" for f in many_faults() if not f.always
        }
        assert len(met) + len(done) >= 60
        print(f"{len(met) + len(done)} faults in {len(person.codes)} commands: {person.codes}")
