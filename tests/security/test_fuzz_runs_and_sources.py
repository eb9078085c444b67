"""Files of a run, and headers of sources, with bytes changed, lost and put in: one line, or good.

Each target runs for `SECONDS`; SHARDCAM_FUZZ_SEED begins elsewhere. What fails is kept, and named.
"""

import io
import json
import os
import random
import struct
import tarfile
import time
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.errors import ShardcamError
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.rundir.listing import Listing, facts_checksum, identity
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_json import Manifest, holds_run, read_manifest
from shardcam.engine.rundir.shard_file import check_shard
from shardcam.engine.rundir.user_block import write_user_block
from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.html_file import write_page
from tests.analysis.runs import LAST, make_run
from tests.jobs.command import shardcam
from tests.readers.sources import opened, pictures, png, write_idx, write_tar
from tests.readers.test_hostile import labelled, record
from tests.rundir.test_write_listing import samples, save

SECONDS = float(os.environ.get("SHARDCAM_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("SHARDCAM_FUZZ_SEED", "0"))
INTERESTING = (b"\0", b"\xff", b"\x7f", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"\\",
               b"[" * 2000, b"9" * 400, b"\xff" * 8, b"\0" * 512, b"\x80\0\0\0\0\0\0\0", b"../",
               struct.pack("<Q", 1 << 62), struct.pack(">I", (1 << 32) - 1))  # fmt: skip
pytestmark = pytest.mark.slow


def mutated(data, draw):
    """A few changes of bytes, as damage or an enemy would make them."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((0, 1, 2, 4, 8, 64, 1024)))
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:end] = draw.choice(INTERESTING)
        elif kind == 3:
            data[at:at] = data[draw.randrange(len(data) + 1) :][: end - at]
        elif kind == 4:
            data[at:end] = draw.randbytes(end - at)
        else:
            del data[at:]
    return bytes(data)


def changed_value(value, draw):
    """JSON with one value that is another."""
    deep = json.loads("[" * 60 + "]" * 60)
    odd = (None, True, -1, 10**15, 10**400, 1e308, float("nan"), "", "x", "\x1b[31m", "\ud800", [],
           {}, [[]], {"a": {}}, [None] * 5, ["x", "y"], deep)  # fmt: skip
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return draw.choice(odd)
    places = list(value) if isinstance(value, dict) else range(len(value))
    place = draw.choice(list(places))
    made = dict(value) if isinstance(value, dict) else list(value)
    made[place] = changed_value(value[place], draw)
    return made


def fuzz(seeds, look, tmp_path, name):
    """Change the seeds until the time is over; whatever `look` raises must be one line of ours."""
    draw, count, until = random.Random(SEED), 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        seed = draw.choice(seeds)
        data = seed(draw) if callable(seed) else mutated(seed, draw)
        path = tmp_path / name
        path.write_bytes(data)
        begun = time.monotonic()
        try:
            look(path)
        except ShardcamError as error:
            assert str(error).isprintable()
        except Exception as error:
            kept = tmp_path.parent / f"failed-{name}"
            kept.write_bytes(data)
            raise AssertionError(
                f"case {count} of seed {SEED}, kept in {kept}: {error!r}"
            ) from error
        assert time.monotonic() - begun < 10, f"case {count} of seed {SEED}"
        count += 1
    print(f"{name}: {count} cases")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", shards=(3, 2)).paths


def test_run_json(run):
    stored = json.loads(run.run_json.read_text())

    def edited(draw):
        changed = changed_value(stored, draw)
        with suppress(Exception):
            parts = {name: value for name, value in changed.items() if name != "fingerprint"}
            changed["fingerprint"] = Manifest(**parts).fingerprint
        return json.dumps(changed).encode()

    def look(path):
        manifest = read_manifest(run)
        with suppress(ShardcamError):
            holds_run(run, Manifest({}, {"a": 1}, {"samples": 7, "shards": 1}, {}))
        assert manifest.plan["shards"] >= 0
        with suppress(ShardcamError, UserWarning), opened_run(run, photographs=True) as shown:
            shown.run.cam(LAST).on_original(0)
            write_page(shown, run.root / "report.html", 3)
        code, out, err = shardcam("status", run.root)
        assert code in (0, 1) and "Traceback" not in err
        assert all(line.isprintable() for line in (out + err).splitlines())

    fuzz([run.run_json.read_bytes(), edited, edited], look, run.root, "run.json")


def test_events(run):
    lines = [
        {"time": 1.5, "kind": "run_started", "host": "a", "pid": 1, "shards": 2, "todo": 2},
        {"time": 2.5, "kind": "worker_started", "worker": "w", "host": "a", "seconds": 1.0},
        {"time": 3.5, "kind": "shard_done", "worker": "w", "images": 5, "seconds": {"read": 1.0}},
        {"time": 4.5, "kind": "shard_done", "worker": "w", "images": 5, "seconds": {"read": 1.0}},
        {"time": 5.5, "kind": "run_ended", "outcome": "done"},
    ]

    def edited(draw):
        made = [*lines, changed_value(draw.choice(lines), draw), changed_value(lines[2], draw)]
        return "\n".join(map(json.dumps, made)).encode()

    def look(path):
        code, out, err = shardcam("status", run.root, "--workers")
        assert code in (0, 1) and "Traceback" not in err
        assert all(line.isprintable() for line in (out + err).splitlines())
        with suppress(KeyError, ValueError, ZeroDivisionError):  # it takes a log that we wrote
            worker_rate(read_events(run))

    fuzz([edited, "\n".join(map(json.dumps, lines)).encode()], look, run.root, "events.jsonl")


def test_listing(tmp_path):
    save(tmp_path, samples(50))
    with zipfile.ZipFile(tmp_path / "listing.zip") as archive:
        block, facts = (json.loads(archive.read(name)) for name in archive.namelist())

    def edited(draw):
        """Every checksum is right."""
        changed = dict(facts)
        rows = changed_value(block, draw) if draw.random() < 0.5 else block
        if rows is block:
            changed = changed_value(facts, draw)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("000000.json", json.dumps(rows))
            if isinstance(changed, dict):
                version = changed.pop("version", None)
                changed.pop("checksum", None)
                checksum = facts_checksum(changed, [archive.infolist()[0].CRC])
                changed = {"version": version, "checksum": checksum, **changed}
            archive.writestr("listing.json", json.dumps(changed))
        return stream.getvalue()

    def look(path):
        listing = Listing(path)
        try:
            for sample in [*listing, *listing.read(10, 20)]:
                assert identity(sample).encode()
            assert all(isinstance(note.text, str) for note in listing.notes)
            assert listing.created.year
        finally:
            listing.close()

    fuzz([edited, (tmp_path / "listing.zip").read_bytes()], look, tmp_path, "listing.zip")


def test_shards(run):
    """Bytes of a shard; HDF5's own reader is tried more than ours."""
    fingerprint = read_manifest(run).fingerprint
    shard = run.shard(0)

    def look(path):
        check_shard(path, 0, fingerprint, deep=True)
        check_shard(path, 0, fingerprint)

    fuzz([shard.read_bytes()], look, shard.parent, shard.name)


def every_sample(path):
    reader = opened(path)
    for sample in reader.samples():
        with suppress(OSError):
            reader.read(sample)


def test_idx(tmp_path):
    plain = write_idx(tmp_path, pictures(3, gray=True), [1, 2, 3])
    fuzz([plain.read_bytes()], every_sample, tmp_path, plain.name)


def test_idx_labels(tmp_path):
    plain = write_idx(tmp_path, pictures(3, gray=True), [1, 2, 3])
    (beside,) = (path for path in tmp_path.iterdir() if path != plain)
    fuzz([beside.read_bytes()], lambda _: every_sample(plain), tmp_path, beside.name)


def test_recordio(tmp_path):
    parts = record(labelled()[:40], flag=1) + record(b"middle", flag=2) + record(b"end", flag=3)
    fuzz([record(labelled()) * 2 + parts], every_sample, tmp_path, "a.rec")


def test_recordio_index(tmp_path):
    (tmp_path / "a.rec").write_bytes(record(labelled()) * 3)
    fuzz([b"0\t0\n1\t100\n2\t200\n"], lambda _: every_sample(tmp_path / "a.rec"), tmp_path, "a.idx")


def test_tar(tmp_path):
    picture = png(pictures(1)[0])
    members = [("a.png", picture), ("a.cls", b"3"), ("n" * 120 + ".png", picture)]
    seeds = [
        write_tar(tmp_path / "b.tar", members, form).read_bytes()
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ]

    def resealed(draw):
        """Headers that are changed, and their checksums right again."""
        data = bytearray(draw.choice(seeds))
        at = 512 * draw.randrange(len(data) // 512)
        header = bytearray(mutated(data[at : at + 512], draw)[:512].ljust(512, b"\0"))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[at : at + 512] = header
        return bytes(data)

    fuzz([*seeds, resealed, resealed], every_sample, tmp_path, "a.tar")


def test_values_of_shards(run):
    """Numbers in a shard that are others, with every checksum right: shown, or one line."""
    good, draw, until = run.shard(0).read_bytes(), random.Random(SEED), time.monotonic() + SECONDS
    odd = [0, -1, 1, 7, 255, 2**15, 2**31 - 1, -(2**31), np.nan, np.inf, -np.inf, 6e4, 1e-30, 1e30]
    while time.monotonic() < until:
        run.shard(0).write_bytes(good)
        with h5py.File(run.shard(0), "r+") as file:
            name = draw.choice([name for name, data in datasets(file).items() if len(data)])
            values = file[name][:]
            flat = values.reshape(-1)
            value = draw.randbytes(3) if values.dtype.kind == "S" else draw.choice(odd)
            with np.errstate(all="ignore"), suppress(OverflowError, ValueError):
                flat[draw.randrange(len(flat))] = value
            file[name][...] = values
        with run.shard(0).open("r+b", buffering=0) as stream:
            write_user_block(stream)
        with suppress(ShardcamError), np.errstate(all="ignore"), open_run(run.root) as opened_one:
            opened_one.keys, opened_one.failures  # noqa: B018
            for layer in opened_one.layers:
                opened_one.cam(layer).heatmap((20, 20))[:]
                for i in range(3):
                    opened_one.cam(layer).on_original(i)
