"""Nothing that fails loses an image: many faults, and then the same rows as without them."""

import csv
import json
import signal

import h5py
import numpy as np
import pytest

from shardcam.engine.rundir.run_dir import RunDir
from tests.faults.driving import (
    Person,
    fill,
    make_model,
    make_source,
    may_mount,
    read_only,
    small_disk,
    wait_for_shards,
)
from tests.faults.inject import Fault, happened, write_plan
from tests.workers.cluster import add_node, ray_cluster


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
        if values.dtype.kind == "f":  # the batch that lost an image was a smaller one
            one_step = 2 * np.finfo(values.dtype).eps
            np.testing.assert_allclose(found[name], values, one_step, one_step, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    leftover = [path.name for path in RunDir(run).staging.glob("*.h5")]
    assert not leftover


def undisturbed(folder, *arguments):
    write_plan(folder / "no-faults", [])
    run = folder / "undisturbed"
    person = Person(folder / "no-faults", run, *arguments, "--executor", "local")
    code, out = person.once()
    assert code == 0, out
    return run


def kill(process):
    """The driver; its workers are left to Ray."""
    process.kill()


@pytest.mark.ray
def test_a_short_run(tmp_path):
    """Workers that are killed and a killed driver, on a Ray of its own."""
    images, size, batch = 320, 16, 8
    source, model = make_source(tmp_path, images), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", size)
    options = (*options, "--batch-size", batch)
    before = undisturbed(tmp_path, *options)
    faults = [
        Fault("read", 40, "kill"),
        Fault("forward", 170, "kill"),
        Fault("publish", 15, "kill"),
        Fault("published", 17, "kill"),
    ]
    write_plan(tmp_path / "faults", faults)
    person = Person(tmp_path / "faults", tmp_path / "run", *options, "--workers", 2)
    person.until(kill)
    person.until_done()
    assert person.codes == [-signal.SIGKILL, 0], person.output
    assert len(happened(tmp_path / "faults")) == len(faults)
    check_same(person.run, before, set(), images, batch)


@pytest.mark.process
def test_whatever_ends_the_process_costs_a_local_run_one_command(tmp_path):
    """One while it is read, one in the forward pass, in different shards."""
    images, size, batch = 12, 2, 2
    source, model = make_source(tmp_path, images), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", size)
    options = (*options, "--batch-size", batch, "--executor", "local")
    before = undisturbed(tmp_path, *options)
    poisoned = {3, 8}
    faults = [Fault("read", 3, "crash", always=True), Fault("forward", 8, "crash", always=True)]
    write_plan(tmp_path / "faults", faults)
    person = Person(tmp_path / "faults", tmp_path / "run", *options)
    person.once()
    _, out = person.once()
    assert person.codes == [-signal.SIGSEGV, 0], person.output
    assert "2 worker crashed" in out
    assert "SIGSEGV" in (person.run / "failures.csv").read_text()
    check_same(person.run, before, poisoned, images, batch)


@pytest.mark.process
def test_a_local_run_that_was_killed_is_resumed(tmp_path):
    """Its images are harmless: nothing is lost, and the lock tells of nothing afterwards."""
    source, model = make_source(tmp_path, 24), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", 8, "--batch-size", 4)
    before = undisturbed(tmp_path, *options)
    write_plan(tmp_path / "faults", [Fault("forward", 10, "kill")])
    person = Person(tmp_path / "faults", tmp_path / "run", *options, "--executor", "local")
    person.once()
    assert (person.run / ".lock").stat().st_size
    person.once()
    assert person.codes == [-signal.SIGKILL, 0], person.output
    check_same(person.run, before, set(), 24, 4)
    assert not (person.run / ".lock").stat().st_size


@pytest.mark.process
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_bug_stops_the_run_and_is_no_failure_of_its_image(tmp_path, executor):
    """In a first try with four images, too; once the bug is mended the same command goes on."""
    source, model = make_source(tmp_path, 4), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", 2)
    options = (*options, "--executor", executor, *(("--workers", 1) if executor == "ray" else ()))
    faults = tmp_path / "faults"
    write_plan(faults, [Fault("read", 3, "error", always=True)])
    person = Person(faults, tmp_path / "run", *options)
    code, out = person.once()
    assert code == 1, out
    assert "inject.py" in out, "where it was raised"
    _, *trace, error, told = out[out.index("Traceback (most recent call last)") :].splitlines()
    assert not any(line.startswith("Traceback") for line in trace), "one is enough"
    assert error == "ZeroDivisionError: a bug"
    assert told.startswith("shardcam: this is a bug, met at sample '3'; please report it with all")
    assert "RayTaskError" not in out
    assert not (person.run / "report.json").exists()
    assert len(happened(faults)) == 1, "it was tried again"
    (faults / "plan.json").write_text("[]")
    code, out = person.once()
    assert code == 0, out
    assert "4 listed = 4 ok + 0 failed" in out


IMAGES, SHARD, BATCH = 5000, 50, 10
KILLER = 1234  # an image that crashes its workers
STAGES = ("read", "forward", "write", "publish", "published")  # where workers are killed


def many_faults():
    """At most one for each shard: a second death would have its images searched."""
    free = iter(n for n in range(IMAGES // SHARD) if n != KILLER // SHARD)

    def at(place):
        shard = next(free)
        return shard * SHARD + 7 if place in ("read", "forward") else shard

    kinds = [(place, "kill") for _ in range(7) for place in STAGES]
    kinds += [("forward", "hang"), ("write", "stop")]
    kinds += [(place, "slow") for place in STAGES]
    kinds = [kinds[i] for i in np.random.RandomState(2).permutation(len(kinds))]
    faults = [Fault(place, at(place), kind) for place, kind in kinds]
    last = range(IMAGES // SHARD - 20, IMAGES // SHARD, 2)  # they end the command, so not before
    ends = [("publish", kind) for kind in ("ENOSPC", "EROFS") * 2]
    ends += [(place, "error") for place in STAGES]
    ends.append(("read", "memory"))
    for n, (place, kind) in zip(last, ends, strict=True):
        faults.append(Fault(place, n * SHARD + 7 if place in ("read", "forward") else n, kind))
    faults.append(Fault("forward", KILLER, "kill", always=True))
    return faults


@pytest.mark.slow
def test_a_long_run(tmp_path):
    """Five thousand images, more than sixty faults of every kind, on three nodes."""
    if not may_mount():
        pytest.skip("may not mount file systems")
    source, model = make_source(tmp_path, IMAGES), make_model(tmp_path)
    options = (source, "--model", model, "--image-size", 8, "--shard-size", SHARD)
    options = (*options, "--batch-size", BATCH)
    before = undisturbed(tmp_path, *options)
    faults, run = tmp_path / "faults", tmp_path / "run"
    write_plan(faults, many_faults())

    with small_disk(run, 16), ray_cluster(nodes=2) as cluster:
        ray = ("--address", cluster.address, "--workers", 2, "--hang-timeout", 30)
        person = Person(faults, run, *options, *ray)

        def write_protect(process):
            with read_only(run / "shards"):
                process.wait(300)

        def lose_nodes(_process):
            for node in [*cluster.worker_nodes]:
                cluster.remove_node(node, allow_graceful=False)
                add_node(cluster)
                wait_for_shards(run, 3)

        for _ in range(4):
            person.until(kill)
        code, out = person.until(lambda _: fill(run))
        assert code == 5, out
        (run / "ballast").unlink()
        code, out = person.until(write_protect)
        assert code == 1, out
        assert "Read-only file system" in out
        for _ in range(2):
            person.until(kill)
        person.until(lose_nodes)
        person.until_done()
        assert person.codes.count(-signal.SIGKILL) == 6
        check_same(run, before, {KILLER}, IMAGES, BATCH)
        met = happened(faults)
        once = {f"{f.place}-{f.at}-{f.kind}" for f in many_faults() if not f.always}
        assert once <= set(met)
        count = len(met) + 6 + 2 + 1 + 1  # drivers, nodes, disk full, read-only
        assert count >= 60
        print(f"{count} faults in {len(person.codes)} commands: {person.codes}")
