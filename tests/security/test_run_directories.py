"""Run directories of somebody else: nothing outside is written, deleted or shown, all is one line.

Each case changes a good run. Every command that takes a run is then given it, and must end by
itself, with no traceback, having read little and written nothing but inside of the run.
"""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.errors import RunDirectoryError, ShardcamError, SourceError
from shardcam.engine.rundir.listing import Listing, block_name, facts_checksum
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.user_block import write_user_block
from shardcam.engine.rundir.write_listing import run_listing
from tests.analysis.runs import LAST
from tests.jobs.command import SMALL, shardcam
from tests.jobs.shown import change_options, make_shown_run

SECRET = "the secret line of another file"
SECONDS = 20  # that a command may take before it counts as waiting
pytestmark = pytest.mark.filterwarnings("ignore:.* of the run's .* shards")
ESCAPE = "\x1b]0;pwned\x07\x1b[31m\n\u202e=1+1"
SHARD, OTHER = "shards/shard-000000.h5", "shards/shard-000001.h5"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    base = tmp_path_factory.mktemp("good")
    made = make_shown_run(base, shards=(3, 2), keys="{:04d}.png")
    stored = json.loads(made.paths.run_json.read_text())
    stored["grown"] = {"source": Listing(made.paths.listing).facts.digest}
    made.paths.run_json.write_text(json.dumps(stored))
    made.paths.report.write_text("{}")
    made.paths.events.write_text(event())
    assert shardcam("verify", made.paths.root, "--deep")[0] == 0
    return base


@pytest.fixture
def run(good, tmp_path):
    shutil.copytree(good, tmp_path / "strange")
    options = {"source": str(tmp_path / "strange" / "photos"), "target": "top2"}
    change_options(RunDir(tmp_path / "strange" / "run"), **options)
    return tmp_path / "strange" / "run"


@pytest.fixture
def mine(tmp_path):
    """What the reader has elsewhere, and how it is."""
    folder = tmp_path / "mine"
    (folder / "old").mkdir(parents=True)
    (folder / "secret.txt").write_text(f"{SECRET}\n" * 100)
    (folder / "old" / "shard-000000-x.1-1-0a0a0a0a.h5").write_text(SECRET)
    (folder / "old" / "thesis.h5").write_text(SECRET)
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    return folder


def state(folder):
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def no_waiting():
    """A command that waits for a pipe, or never ends, fails."""

    def fail(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def commands(run):
    out = run.parent / "out"
    out.mkdir(exist_ok=True)
    return (
        ("status", run),
        ("verify", run),
        ("verify", run, "--deep"),
        ("report", run, "--out", out / "page.html", "--force"),
        ("export", run, "--to", "coco", "--layer", LAST, "--out", out / "coco.json", "--force"),
        ("index", run, "--merge", "--out", out / "merged.h5", "--force"),
        ("index", run),
        ("retry-failed", run, "--executor", "local"),
        ("verify", run, "--repair"),
    )


def given_to_all(run):
    """What each command said; it must be fit for a terminal, and no traceback."""
    (run.parent / "out").mkdir(exist_ok=True)
    told = {}
    for command in commands(run):
        name = " ".join(str(word) for word in command if word != run and "/" not in str(word))
        with no_waiting():
            code, out, err = shardcam(*command)
        assert code in (0, 1, 2), (name, code, err)
        assert "Traceback" not in err, (name, err)
        for line in (out + err).splitlines():
            assert line.isprintable(), (name, line)
            assert not line.strip().startswith(r"\x202e"), (name, line)  # a line of its own
        assert SECRET not in out + err, name
        told[name] = (code, out + err)
    for path in (run.parent / "out").iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    with suppress(ShardcamError), no_waiting(), open_run(run) as opened:
        opened.keys, opened.failures, opened.table  # noqa: B018
        [opened.cam(layer)[:] for layer in opened.layers]
    return told


# Links.

FILES = ("run.json", "listing.zip", "calibration.json", "class_names.json", "index.h5",
         "events.jsonl", "report.json", "failures.csv", ".lock", ".begin.lock",
         ".lock-part-1-of-2", "events.part-1-of-2.jsonl")  # fmt: skip
FOLDERS = ("shards", "shards/.tmp", "shards/.again", "damaged", "overlays", "activations")


def put_link(path, target):
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        path.rename(path.parent.parent / "moved")
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("kind", ["file", "dangling", "loop", "device"])
@pytest.mark.parametrize("name", FILES)
def test_no_file_of_a_run_is_a_link(run, mine, name, kind):
    target = {"file": mine / "secret.txt", "dangling": mine / "new", "loop": name}
    put_link(run / name, target.get(kind, "/dev/zero"))
    before = state(mine)
    with pytest.raises(RunDirectoryError, match=f"{name}: a link, which is not followed here; put"):
        RunDir(run)
    for command in (("status", run), ("retry-failed", run), ("verify", run, "--repair")):
        code, out, err = shardcam(*command)
        assert (code, out) == (1, "")
        assert err.startswith(f"shardcam: {run / name}: a link, ") and err.count("\n") == 1
    assert state(mine) == before


@pytest.mark.parametrize("name", FOLDERS)
def test_no_folder_of_a_run_is_a_link(run, mine, name):
    put_link(run / name, mine / "old")
    before = state(mine)
    for command in commands(run):
        code, _, err = shardcam(*command)
        assert code == 1
        assert f"{run / name}: a link, which is not followed here" in err
    assert state(mine) == before


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, SHARD])
def test_nobody_waits_for_a_pipe(run, name):
    path = run / name
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    told = given_to_all(run)
    assert "neither a file nor a folder" in told["verify"][1]


@pytest.mark.parametrize("name", ["events.jsonl", ".lock"])
def test_what_has_another_name_is_not_written_to(tmp_path, mine, name):
    """The only two files of a run that are changed in place."""
    run = tmp_path / "run"
    arguments = ("extract", STORED / "images", *SMALL, "--executor", "local", "--out", run)
    assert shardcam(*arguments, "--limit", 2)[0] == 0
    (run / name).unlink()
    os.link(mine / "secret.txt", run / name)
    before = state(mine)
    code, _, err = shardcam(*arguments)
    assert code == 1
    assert f"{run / name}: cannot be written: it has another name (a hard link)" in err
    assert state(mine) == before


STORED = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


def test_names_that_are_guessed_are_not_written_through(tmp_path, mine):
    """Files are made under names that nobody has yet, and that cannot be known before."""
    run = tmp_path / "run"
    arguments = ("extract", STORED / "images", *SMALL, "--executor", "local", "--out", run,
                 "--save", "maps,overlays")  # fmt: skip
    assert shardcam(*arguments, "--limit", 2)[0] == 0
    for name in ("run.json", "report.json", "failures.csv", "class_names.json", "report.html"):
        (run / f".{name}.{os.getpid()}").symlink_to(mine / "secret.txt")
    for picture in [*(run / "overlays").iterdir()]:
        picture.with_name(f".{picture.name}.{os.getpid()}").symlink_to(mine / "secret.txt")
        picture.unlink()
        picture.symlink_to(mine / "secret.txt")
    (run / "shards" / ".tmp" / "publish.lock").symlink_to(mine / "secret.txt")
    (run / "report.html").symlink_to(mine / "secret.txt")
    before = state(mine)
    shutil.rmtree(run / "shards")
    assert shardcam(*arguments)[0] == 0
    assert shardcam("report", run)[0] == 0
    assert state(mine) == before
    assert not (run / "report.html").is_symlink()
    assert [p for p in (run / "overlays").iterdir() if p.suffix == ".jpg" and p.is_symlink()] == []


def test_only_names_of_ours_are_deleted(run):
    staging = run / "shards" / ".tmp"
    theirs = [staging / "thesis.h5", staging / "a-b-c.h5", run / ".listing-mine.zip"]
    for path in (*theirs, ours := staging / "shard-000000-host.1-1-0a0a0a0a.h5"):
        path.write_text("years of work")
        os.utime(path, (0, 0))
    assert RunDir(run).clean_staging() == 1
    assert not ours.exists()
    assert all(path.exists() for path in theirs)


def test_a_run_below_a_link_is_any_run(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    (tmp_path / "above").symlink_to(run.parent)
    for name in ("link", "above/run"):
        assert shardcam("verify", tmp_path / name)[0] == 0
        assert shardcam("index", tmp_path / name)[0] == 0


def test_a_shard_that_is_a_link_is_not_read(run, mine):
    shutil.move(run / SHARD, mine / "own.h5")
    (run / SHARD).symlink_to(mine / "own.h5")
    before = state(mine)
    told = given_to_all(run)
    assert f"{run / SHARD}: cannot be read now: a link" in told["verify"][1]
    assert state(mine) == before
    assert (run / SHARD).is_symlink()  # and nothing is repaired


# HDF5.


def changed(change, name=SHARD):
    """A case: the file is changed by `change`, and sealed as a good one is."""

    def spoil(run, mine):
        with h5py.File(run / name, "r+") as file:
            change(file, mine)
        with (run / name).open("r+b", buffering=0) as stream:
            write_user_block(stream)

    return spoil


def replaced(name, **how):
    """A case: a dataset becomes another one, of its shape and type unless `how` says more."""

    def change(file, mine):
        shape, dtype = file[name].shape, file[name].dtype
        attributes = dict(file[name].attrs)
        del file[name]
        options = {"shape": shape, "dtype": dtype} | {
            key: value(mine, shape, dtype) if value is external else value
            for key, value in how.items()
        }
        file.create_dataset(name, **options).attrs.update(attributes)

    return changed(change)


def external(mine, shape, dtype):
    size = int(np.prod(shape)) * dtype.itemsize
    return [(str(mine / "secret.txt"), 0, size)]


def virtual(name, source=None, target=SHARD):
    """A case: rows of another file, whose path is relative to the target's folder if given."""

    def change(file, mine):
        shape, dtype = file[name].shape, file[name].dtype
        attributes = dict(file[name].attrs)
        with h5py.File(mine / "other.h5", "w") as other:
            other["x"] = np.full(shape, SECRET[:8].encode(), dtype)
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(source or str(mine / "other.h5"), "x", shape)
        del file[name]
        file.create_virtual_dataset(name, layout).attrs.update(attributes)

    return changed(change, target)


def linked(link):
    def change(file, mine):
        with h5py.File(mine / "other.h5", "w") as other:
            other["x"] = np.full(3, SECRET[:8].encode(), file["key"].dtype)
        del file["key"]
        file["key"] = link(mine)

    return changed(change)


def values(name, *rows):
    def change(file, mine):
        for i, row in enumerate(rows):
            file[name][i] = row

    return changed(change)


def attribute(name, value):
    return changed(lambda file, mine: file.attrs.__setitem__(name, value))


def nested(levels):
    def change(file, mine):
        group = file
        for _ in range(levels):
            group = group.create_group("g")

    return changed(change)


def circle(file, mine):
    file["cam"]["again"] = file["cam"]


def many_groups(file, mine):
    for i in range(12_000):
        file.create_group(f"g{i}")


NAN, HUGE = float("nan"), 2.0**31
PLAIN = {  # plain verify says what is wrong
    "a key in another file": (replaced("key", external=external), "the data of key is in other"),
    "numbers in another file": (replaced("label", external=external), "the data of label is in"),
    "a virtual key": (virtual("key"), "the data of key is in other files"),
    "an external link": (linked(lambda mine: h5py.ExternalLink(str(mine / "other.h5"), "x")),
                         "key is a link to something elsewhere"),
    "a soft link": (linked(lambda mine: h5py.SoftLink("/failure/key")), "key is a link to"),
    "a link to itself": (linked(lambda mine: h5py.SoftLink("/key")), "key is a link to"),
    "groups in groups": (nested(900), "holds groups or datasets that no run has"),
    "a circle of groups": (changed(circle), "holds groups or datasets that no run has"),
    "many groups": (changed(many_groups), "holds groups or datasets that no run has"),
    "keys that are numbers": (replaced("key", dtype=np.int64), "key is int64 (), which none of a"),
    "texts of any length": (replaced("key", dtype=h5py.string_dtype()), "key is object ()"),
    "a crop of three": (replaced("crop", shape=(3, 3)), "crop is float32 (3,), which none"),
    "crops that are texts": (replaced("crop", dtype="S8"), "crop is |S8 (4,)"),
    "a prediction too many": (replaced("top_class", shape=(3, 6)), "top_class has 6 for each"),
    "no classes": (replaced("top_class", shape=(3, 0)), "top_class is int32 (0,)"),
    "a score too many": (replaced("score", shape=(3, 9)), "score has 9 for each image, target 2"),
    "a map too many": (replaced(f"cam/{LAST}/map", shape=(3, 7, 3, 3)), "has 7 for each image"),
    "a flat map": (replaced(f"cam/{LAST}/map", shape=(3, 2)), "float16 (2,), which none of a run"),
    "a row too few": (replaced("flags", shape=(2,)), "flags has 2 rows, not 3"),
    "no failures": (changed(lambda file, mine: file.__delitem__("failure")), "no failure/"),
    "a group for a dataset": (changed(lambda file, mine: (file.__delitem__("label"),
                              file.create_group("label"))), "there is no label in it"),
    "a terabyte of rows": (replaced(f"cam/{LAST}/map", shape=(3, 2, 10**6, 10**5),
                           chunks=(1, 1, 10, 10)), "claims (3, 2, 1000000, 100000), more than"),
    "a gigabyte in a chunk": (replaced("label", chunks=(1 << 28,), maxshape=(None,),
                              compression="gzip"), "label claims (3,), more than its file can"),
    "rows below none": (attribute("samples_ok", -1), "an attribute that is not a number"),
    "10^18 rows": (attribute("samples_ok", 10**18), "samples listed"),
    "complete as a list": (attribute("complete", [True, False]), "not complete"),
    "flags counted in words": (attribute("samples_flagged", ["a"] * 8), "not of eight numbers"),
    "a fingerprint of escapes": (attribute("fingerprint", ESCAPE), r": fingerprint \x1b"),
}  # fmt: skip
DEEP = {  # verify --deep does
    "a crop that is no number": (values("crop", [0, 0, NAN, 4]), "crop has views that are no part"),
    "a huge crop": (values("crop", [0, 0, 2 * HUGE, 1]), "crop has views that are no part"),
    "a crop of nothing": (values("crop", [3, 3, 3, 3]), "crop has views that are no part"),
    "a crop turned round": (values("crop", [4, 4, 0, 0]), "crop has views that are no part"),
    "pictures of no size": (values("image_size", [0, 5]), "image_size has sizes that no picture"),
    "pictures of 2^31": (values("image_size", [2**31 - 1] * 2), "image_size has sizes that no"),
    "a class of -7": (values("target", [-7, 0]), "target has numbers below that of any class"),
    "a prediction of -7": (values("top_class", [-7] * 5), "top_class has numbers below"),
    "infinite scores": (values("top_score", [np.inf] * 5), "top_score has an infinite"),
    "flags of later": (values("flags", 128), "flags has flags that there are not"),
    "maps beyond their scale": (values(f"cam/{LAST}/map", np.full((2, 3, 3), 6e4)), "beyond their"),
    "scales below zero": (values(f"cam/{LAST}/scale", [-3e38, -3e38]), "negative scales"),
    "keys that are not UTF-8": (values("key", b"\xff\xfe\x1b[31m"), "key has texts that are not"),
    "failures that are not UTF-8": (values("failure/message", b"\xff\x1b[31m"), "not UTF-8"),
    "rows that were never written": (replaced("label", chunks=(3,), fillvalue=7), "never written"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*PLAIN, *DEEP])
def test_shards(run, mine, name):
    spoil, words = (PLAIN | DEEP)[name]
    spoil(run, mine)
    before = state(mine)
    told = given_to_all(run)
    code, text = told["verify" if name in PLAIN else "verify --deep"]
    assert (code, words in text) == (1, True), text
    assert state(mine) == before


@pytest.mark.parametrize("where", ["absolute", "above", "link", "external"])
def test_an_index_shows_rows_of_the_runs_shards_alone(run, mine, where):
    if where in ("absolute", "above"):
        source = "shards/../../../mine/other.h5" if where == "above" else None
        virtual("key", source, "index.h5")(run, mine)
        with h5py.File(run / "index.h5") as file:  # what plain h5py shows
            assert file["key"][0] == SECRET[:8].encode()
    else:

        def change(file, mine):
            del file["flags"]
            if where == "link":
                file["flags"] = h5py.ExternalLink(str(mine / "secret.txt"), "x")
            else:
                outside = [(str(mine / "secret.txt"), 0, 5)]
                file.create_dataset("flags", (5,), np.uint8, external=outside)

        changed(change, "index.h5")(run, mine)
    told = {}
    for command in commands(run)[:5]:
        told[command[0]] = shardcam(*command)
    code, _, err = told["verify"]
    assert code == 1
    assert "takes rows from" in err or "is a link to something elsewhere" in err, err
    assert f"shardcam index {run} rebuilds it" in err
    assert shardcam("index", run)[0] == 0
    assert shardcam("verify", run)[0] == 0


# JSON, events, the lock, names.


def edited(**parts):
    def spoil(run, mine):
        stored = json.loads((run / "run.json").read_text())
        for name, value in parts.items():
            stored[name] = stored[name] | value if isinstance(value, dict) else value
        (run / "run.json").write_text(json.dumps(stored))

    return spoil


def written(name, data):
    def spoil(run, mine):
        (run / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return spoil


def sparse(name, size=1 << 40):
    def spoil(run, mine):
        with (run / name).open("r+b") as stream:
            stream.truncate(size)

    return spoil


def labels(run, mine):
    edited(config={"labels": str(mine / "secret.txt")})(run, mine)


def event(**fields):
    return json.dumps({"time": 1.0, "kind": "shard_done"} | fields) + "\n"


DEEP_JSON = "[" * 100_000
TEXTS = {
    "deep run.json": (written("run.json", DEEP_JSON), "run.json: damaged: it is nested too deep"),
    "run.json less deep": (edited(versions={"a": json.loads("[" * 300 + "]" * 300)}), "too deep"),
    "a terabyte of run.json": (sparse("run.json"), "1099511627776 bytes; such a file has at most"),
    "run.json of numbers": (written("run.json", "1" * 5000), "run.json: damaged: "),
    "an unknown part with escapes": (lambda run, mine: written("run.json", json.dumps(
                                      {"fingerprint": "", ESCAPE: 1}))(run, mine), r"\x1b]0;pwned"),
    "10^15 shards": (edited(plan={"shards": 10**15, "samples": 10**16}), "missing or damaged"),
    "shards below none": (edited(plan={"shards": -1}), "its plan has no number of shards"),
    "a shard size of words": (edited(plan={"shard_size": "x"}), "no number of images in a shard"),
    "a limit of words": (edited(config={"limit": "x"}), "its limit is not a number"),
    "options that are escapes": (edited(config=dict.fromkeys(("source", "model", "method",
                                 "target"), ESCAPE)), ""),
    "options that are lists": (edited(config={name: [[ESCAPE]] for name in (
                               "source", "model", "method", "codec", "colormap", "alpha")}), ""),
    "names of classes from a text": (labels, ""),
    "deep names": (written("class_names.json", DEEP_JSON), ""),
    "names that are escapes": (written("class_names.json", json.dumps(dict.fromkeys(
                               map(str, range(9)), ESCAPE))), ""),
    "names that are numbers": (written("class_names.json", '{"0": 1e999, "a": []}'), ""),
    "deep report.json": (written("report.json", DEEP_JSON), ""),
    "a terabyte of report.json": (sparse("report.json"), ""),
    "notes that are escapes": (written("report.json", json.dumps({"notes": [
                               {"kind": ESCAPE, "text": ESCAPE}, {"kind": 1, "text": [1]}]})), ""),
    "a terabyte of events": (sparse("events.jsonl"), ""),
    "an endless event": (written("events.jsonl", '{"kind": "' + "x" * (1 << 22)), ""),
    "odd events": (written("events.jsonl", "".join((
        event(kind=[]), event(kind={}, time=3), event(time="x"), event(time=float("nan")),
        event(time=1e308), event(time=10**400), event(time=-5),
        event(seconds=7), event(seconds={"read": "x"}), event(seconds={ESCAPE: 1}),
        event(images="x", seconds={}), event(images=[1], seconds={}), event(time=True),
        event(kind="worker_started", worker=[1], host={}), event(kind="worker_started"),
        event(kind="worker_started", worker=ESCAPE, host=ESCAPE),
        *(event(kind=kind, part=[1], worker="w") for kind in ("run_started", "shard_started")),
        *(event(kind="worker_waiting", workers=n, resource=[1]) for n in ("x", [1], 1e999)),
        event(kind="run_ended", outcome=ESCAPE), "\n", DEEP_JSON, "\n", "\xff\0\n", "[1]\n"))), ""),
    "a lock of escapes": (written(".lock", json.dumps(dict.fromkeys(("pid", "host", "since"),
                          ESCAPE))), ""),
    "a deep lock": (written(".lock", DEEP_JSON), ""),
    "deep calibration": (lambda run, mine: (edited(config={"precision": "int8"})(run, mine),
                         written("calibration.json", DEEP_JSON)(run, mine)), ""),
    "calibration in words": (lambda run, mine: (edited(config={"precision": "int8"})(run, mine),
                             written("calibration.json", json.dumps({"ranges": {}, "images": "x",
                             "keep_first": ESCAPE, "held_out": 1, "top1_agreement": ESCAPE,
                             "map_correlation": 10**400}))(run, mine)), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts(run, mine, name):
    spoil, words = TEXTS[name]
    spoil(run, mine)
    before = state(mine)
    told = given_to_all(run)
    assert words in told["verify"][1]
    assert state(mine) == before


def test_the_holder_of_a_lock_says_what_it_wants(run):
    with (run / ".lock").open("w+") as lock:
        json.dump(dict.fromkeys(("pid", "host", "since"), ESCAPE), lock)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ("status", "retry-failed", "index"):
            _, out, err = shardcam(command, run)
            (told,) = [line for line in (out + err).splitlines() if "pwned" in line]
            assert told.isprintable()
            assert r"process \x1b]0;pwned" in told


def test_a_name_that_a_spreadsheet_would_compute_is_a_text(tmp_path):
    """Ordinary keys are those of the source, in failures.csv too."""
    import csv

    images = tmp_path / "images"
    images.mkdir()
    names = ["größe 1,2.png", "=1+1.png", "-1.png", "@a.png", "+a.png", "\x1b[31m.png", "\t.png"]
    for name in names:
        (images / name).write_bytes(b"")
    code, _, _ = shardcam("extract", images, *SMALL, "--executor", "local", "--out", tmp_path / "r")
    assert code == 3
    with (tmp_path / "r" / "failures.csv").open(newline="") as stream:
        keys = {row["key"] for row in csv.DictReader(stream)}
    assert keys == {"größe 1,2.png", "'=1+1.png", "'-1.png", "'@a.png", "'+a.png",
                    r"\x1b[31m.png", r"\x09.png"}  # fmt: skip


# The listing.


def packed(run, blocks, **facts):
    """A listing with other contents, and every checksum of it right."""
    with zipfile.ZipFile(run / "listing.zip") as archive:
        stored = json.loads(archive.read("listing.json")) | facts
    version = stored.pop("version")
    stored.pop("checksum")
    with zipfile.ZipFile(run / "listing.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, text in enumerate(blocks):
            archive.writestr(block_name(number), text)
        crcs = [info.CRC for info in archive.infolist()]
        checksum = facts_checksum(stored, crcs)
        text = json.dumps({"version": version, "checksum": checksum, **stored})
        archive.writestr("listing.json", text)


def rows(count=7, **fields):
    row = {"key": "a", "index": 0, "label": 0, "location": "/a", "size": 1, "box": None}
    made = [row | {"key": str(i), "index": i} | fields for i in range(count)]
    return json.dumps([list(one.values()) for one in made])


LISTINGS = {
    "a block that unpacks to gigabytes": lambda run: packed(run, [b"[" + b" " * (1 << 27) + b"]"]),
    "blocks that unpack to gigabytes": lambda run: packed(
        run, [b"[" + b" " * (15 << 20) + b"]"] * 9, samples=9 * 2048),
    "a deep block": lambda run: packed(run, [DEEP_JSON]),
    "a huge block size": lambda run: packed(run, [rows()], block=10**15, samples=10**15),
    "more samples than blocks": lambda run: packed(run, [rows()], samples=10**15),
    "samples below none": lambda run: packed(run, [], samples=-5),
    "long keys": lambda run: packed(run, [rows()], key_bytes=10**15),
    "a date that is none": lambda run: packed(run, [rows()], created=ESCAPE),
    "notes of numbers": lambda run: packed(run, [rows()], notes=[1]),
    "notes of escapes": lambda run: packed(run, [rows()], notes=[[ESCAPE, ESCAPE]]),
    "classes of words": lambda run: packed(run, [rows()], classes={"a": "b"}),
    "a label of words": lambda run: packed(run, [rows(label="x")]),
    "a huge label": lambda run: packed(run, [rows(label=10**30)]),
    "half a character": lambda run: packed(run, [rows(key="\ud800")]),
    "a location that is none": lambda run: packed(run, [rows(location=None)]),
    "a box of words": lambda run: packed(run, [rows(box=["a"] * 4)]),
    "a box of three": lambda run: packed(run, [rows(box=[1, 2, 3])]),
    "another index": lambda run: packed(run, [rows(index=3)]),
    "a terabyte": lambda run: sparse("listing.zip")(run, None),
    "no bytes": lambda run: (run / "listing.zip").write_bytes(b""),
    "another's": lambda run: (run / "listing.zip").write_bytes(SECRET.encode()),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTINGS)
def test_listings(run, mine, name):
    LISTINGS[name](run)
    told = given_to_all(run)
    code, text = told["verify --deep"]
    assert code == 1
    assert "listing.zip: " in text


def test_a_directory_of_a_zip_file_that_claims_gigabytes(run):
    size = 1 << 34
    with (run / "listing.zip").open("wb") as stream:
        stream.seek(size)
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 0xFFFFFFF0, 0, 0))
    with pytest.raises(RunDirectoryError, match=r"listing\.zip: cannot be used \(edited\)"):
        Listing(run / "listing.zip")


# What is shown of the source.


def test_pixels_are_of_the_runs_own_array(tmp_path, mine):
    """Of an array any bytes would do for pixels: a listing cannot lead to those of another file."""
    pictures = np.arange(4 * 60 * 80, dtype=np.uint8).reshape(4, 60, 80)
    np.save(tmp_path / "a.npy", pictures)
    run, source = tmp_path / "run", tmp_path / "a.npy"
    arguments = ("extract", source, *SMALL, "--executor", "local", "--out", run)
    assert shardcam(*arguments)[0] == 0
    (mine / "large.txt").write_text(SECRET * 1000)
    with_secret = [
        replace(sample, location=sample.location.replace(str(source), str(mine / "large.txt")))
        for sample in Listing(run / "listing.zip")
    ]
    origin = Listing(run / "listing.zip").facts.origin
    stored = (run / "run.json").read_bytes()
    (run / "listing.zip").unlink()
    (run / "run.json").unlink()
    with run_listing(RunDir(run), origin, lambda: with_secret):
        pass
    (run / "run.json").write_bytes(stored)
    from shardcam.engine.run.stored_options import stored_config
    from shardcam.jobs.source_pictures import SourcePictures

    with open_run(run) as opened:
        config = stored_config(run, opened.config)
        found = SourcePictures(Listing(run / "listing.zip"), config).read(opened, 1)
    np.testing.assert_array_equal(found[..., 0], pictures[1])


def test_a_links_target_outside_of_a_manifests_root_is_a_failure(tmp_path, mine):
    import cv2

    from tests.readers.sources import opened

    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    cv2.imwrite(str(mine / "private.png"), np.zeros((9, 9, 3), np.uint8))
    shutil.copy(mine / "private.png", root / "in" / "a.png")
    (root / "inside.png").symlink_to(root / "in" / "a.png")
    (root / "file.png").symlink_to(mine / "private.png")
    (root / "folder").symlink_to(mine)
    (tmp_path / "link").symlink_to(root)
    lines = ["in/a.png", "inside.png", "file.png", "folder/private.png", "in/../folder/private.png"]
    (tmp_path / "list.csv").write_text("path,key\n" + "".join(f"{p},{i}\n" for i, p in
                                                              enumerate(lines)))  # fmt: skip
    for top in (root, tmp_path / "link"):
        reader = opened(tmp_path / "list.csv", root=str(top))
        found = list(reader.read_many(list(reader.samples())))
        assert [isinstance(one, bytes) for one in found] == [True, True, False, False, False]
        assert str(found[2]) == f"a link leads out of {top} (see --root)"


def test_a_parquet_file_of_few_bytes_and_much_text(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    from shardcam.engine.readers.parquet import parquet_rows

    path = tmp_path / "a.parquet"
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["a" * 170_000])
    plain = {"use_dictionary": False, "compression": "zstd"}
    delta = plain | {"column_encoding": {"path": "DELTA_BYTE_ARRAY"}}
    for column, how, words in (
        (long, {}, "a value of 170000 bytes in the column 'path'"),
        (pa.array(["a" * 170_000] * 600), delta, "a value of 170000 bytes in the column 'path'"),
        (pa.array(["a" * 120_000] * 2500), plain, "the column 'path' would unpack to 300"),
        (pa.array([["a"] * 100] * 10), {}, "the column 'path' is list<"),
        (pa.array([b"a" * 1000] * 10, pa.binary(1000)), {}, "'path' is fixed_size_binary"),
    ):
        parquet.write_table(pa.table({"path": column}), path, **how)
        assert path.stat().st_size < 40_000
        with pytest.raises(SourceError, match=words):
            list(parquet_rows(str(path)))


@pytest.mark.process
def test_all_of_them_need_little_memory(good, tmp_path):
    """In one process of which 1 GB of address space is left, and in little time."""
    code = """
        import pathlib, resource, shutil, sys
        from shardcam.engine.rundir.run_dir import RunDir
        from tests.security import test_run_directories as t
        good, base = map(pathlib.Path, sys.argv[1:])
        mine = base / "mine"
        mine.mkdir()
        (mine / "secret.txt").write_text(t.SECRET)
        cases = {**t.PLAIN, **t.DEEP, **t.TEXTS}
        spoils = {name: spoil for name, (spoil, _) in cases.items()}
        spoils |= {name: lambda run, _, f=f: f(run) for name, f in t.LISTINGS.items()}
        runs = []
        for i, spoil in enumerate(spoils.values()):
            runs.append(shutil.copytree(good / "run", base / str(i) / "run"))
            spoil(runs[-1], mine)
        t.given_to_all(shutil.copytree(good / "run", base / "first" / "run"))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
        for run in runs:
            t.given_to_all(run)
        print("done", len(runs))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), good, tmp_path],
        capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    count = len(PLAIN) + len(DEEP) + len(TEXTS) + len(LISTINGS)
    assert f"done {count}" in done.stdout, done.stderr[-3000:]
