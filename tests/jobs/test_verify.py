"""``shardcam verify``: what it finds, and that it never takes away what may be good."""

from __future__ import annotations

from types import SimpleNamespace

import fsspec
import h5py
import pytest
from click.testing import CliRunner

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.errors import RunDirectoryError, StoreError, needs
from shardcam.engine.run.driver import published_shards
from shardcam.engine.rundir.account import good_shards
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.listing import listing_digest
from shardcam.engine.rundir.merged_index import merge_index
from shardcam.engine.rundir.run_dir import RunDir, UrlRunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run, read_manifest
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.jobs.commands import verify as verifying
from shardcam.jobs.gallery.run_account import read_account
from tests.jobs.command import shardcam, start
from tests.rundir.sink_conformance import SPECS, make_shard, publish

SHARDS = 3
PLAN = SimpleNamespace(shards=SHARDS)  # as much of it as resuming looks at


def make_run(paths, codec="gzip"):
    shards = [make_shard(index) for index in range(SHARDS)]
    samples = [sample for shard in shards for sample in shard.samples]
    plan = {"samples": len(samples), "shards": SHARDS, "shard_size": 6}
    manifest = Manifest({"codec": codec}, {"source": listing_digest(samples)}, plan, {})
    begin_run(paths, manifest)
    with run_listing(paths, {}, lambda: samples):
        pass
    sink = Hdf5Sink(paths, SPECS, manifest.fingerprint, codec)
    for shard in shards:
        publish(sink, shard, failed=shard.index)
    build_index(paths)
    return paths


@pytest.fixture
def paths(tmp_path):
    return make_run(RunDir(tmp_path / "run"))


def verify(paths, *options):
    """Its output; errors are raised."""
    arguments = [str(paths.home), *options]
    return CliRunner().invoke(
        verifying.verify, arguments, standalone_mode=False, catch_exceptions=0
    )


def held(paths):
    """Every file below the run directory, but its lock."""
    return {
        path.relative_to(paths.root).as_posix(): path.read_bytes()
        for path in paths.root.rglob("*")
        if path.is_file() and path != paths.lock_file
    }


def test_a_good_run_is_left_alone(paths):
    before = held(paths)
    assert "18 listed = 15 ok + 3 failed" in verify(paths, "--deep", "--repair").output
    assert held(paths) == before


def test_shards_of_before_have_no_file_checksum_and_it_says_so_once(paths):
    for number in (0, 2):
        paths.shard(number).write_bytes(paths.shard(number).read_bytes()[512:])
    out = verify(paths, "--deep").output
    assert "no file checksum in 2 of 3 shards, of an earlier version" in out
    assert out.count("\n") == 2 and "all shards good (every byte read)" in out
    assert "checksum" not in verify(paths).output


def test_damaged_shards_are_moved_aside_and_none_is_overwritten(paths):
    for wanted in ("shard-000001.h5", "shard-000001.1.h5", "shard-000001.2.h5"):
        paths.shard(1).write_bytes(wanted.encode())
        with pytest.raises(RunDirectoryError, match=f"1 moved to {paths.damaged}"):
            verify(paths, "--repair")
        assert not paths.shard(1).exists()
        assert not paths.index.exists()  # plain h5py would read invented rows from it
        assert (paths.damaged / wanted).read_text() == wanted
    with pytest.raises(RunDirectoryError, match="1 of 3 shards missing or damaged; 0 moved"):
        verify(paths, "--repair")


def test_an_unfinished_run_goes_on(paths):
    """Shards in a row are one line."""
    goes_on = "the same extract command goes on and computes them"
    paths.shard(1).write_bytes(b"damaged")
    aside = f"1 of 3 shards missing or damaged; verify --repair moves damaged ones aside; {goes_on}"
    code, out, err = shardcam("verify", paths.home)
    assert (code, err) == (1, f"shardcam: {paths.home}: {aside}\n")
    for number in (1, 2):
        paths.shard(number).unlink()
    code, out, err = shardcam("verify", paths.home)
    assert (code, out) == (1, f"{paths.shard(1)} to shard-000002.h5: missing\n")
    assert err == f"shardcam: {paths.home}: 2 of 3 shards missing or damaged; {goes_on}\n"


def test_shards_without_an_index_are_looked_at(paths):
    paths.index.unlink()
    code, out, err = shardcam("verify", paths.home)
    assert code == 1 and "18 listed = 15 ok + 3 failed; all shards good" in out
    words = f"every shard is done, but not their index: shardcam index {paths.home} writes it"
    assert err == f"shardcam: {paths.home}: {words}\n"


@pytest.mark.parametrize("kind", ["memory", "s3", "file"])
def test_at_a_url_they_are_moved_aside_too(kind, request, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDCAM_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "here").mkdir()
    if kind == "file":
        paths = make_run(UrlRunDir(tmp_path / "here", f"file://{tmp_path}/run"))
        monkeypatch.setattr(verifying, "RunDir", SimpleNamespace(open=lambda _: paths))
    else:
        store = request.getfixturevalue(kind)
        base = "memory://bucket" if kind == "memory" else store.bucket
        paths = make_run(RunDir.open(f"{base}/run"))
    for wanted in ("shard-000001.h5", "shard-000001.1.h5"):
        overwrite(paths.shard(1), wanted.encode())
        with pytest.raises(RunDirectoryError, match=r"1 moved to .*run/damaged"):
            verify(paths, "--repair")
        assert paths.names(paths.shards) >= {"shard-000000.h5", "shard-000002.h5"}
        assert "shard-000001.h5" not in paths.names(paths.shards)
        assert wanted in paths.names(paths.damaged)


def overwrite(url, content):
    fsspec.open(url).fs.pipe_file(url, content)


def test_what_is_good_at_the_second_look_stays(paths, monkeypatch):
    looks = iter(["damaged", None])
    check = verifying.check_shard
    monkeypatch.setattr(
        verifying,
        "check_shard",
        lambda path, number, *rest: next(looks) if number == 1 else check(path, number, *rest),
    )
    before = held(paths)
    with pytest.raises(RunDirectoryError, match="1 of 3 shards missing or damaged; 0 moved"):
        verify(paths, "--repair", "--deep")
    assert held(paths) == before


def test_a_damaged_index_is_named_with_what_rebuilds_it(paths):
    paths.index.write_bytes(paths.index.read_bytes()[:600])
    for look in (verify, lambda paths: open_run(paths.root)):
        with pytest.raises(
            RunDirectoryError, match=rf"index\.h5: unreadable .*index {paths.home} re"
        ):
            look(paths)
    build_index(paths)
    assert verify(paths).exit_code == 0
    with h5py.File(paths.index, "r+") as index:
        index.attrs["fingerprint"] = "f00d"
    with pytest.raises(RunDirectoryError, match=rf"another run .*; shardcam index {paths.home} re"):
        verify(paths)


@pytest.mark.parametrize("merged", [False, True])
def test_deep_sees_a_single_bit_of_the_index(paths, merged):
    if merged:
        merge_index(paths, "gzip")
    good = paths.index.read_bytes()
    assert verify(paths, "--deep").exit_code == 0
    for at in (len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        paths.index.write_bytes(bad)
        with pytest.raises(
            RunDirectoryError, match=r"index\.h5: damaged: its file checksum .*index"
        ):
            verify(paths, "--deep")
    paths.index.write_bytes(good[512:])  # of an earlier version
    assert verify(paths, "--deep").exit_code == 0


@pytest.mark.parametrize("options", [(), ("--deep",)])
def test_a_shard_that_cannot_be_read_now_stops_it_before_anything_is_touched(paths, options):
    paths.shard(0).write_bytes(b"damaged")
    paths.shard(1).unlink()
    paths.shard(1).symlink_to("shard-000001.h5")
    with pytest.raises(StoreError, match=r"shard-000001\.h5: cannot be read now: a link"):
        verify(paths, "--repair", *options)
    assert not paths.damaged.exists()
    assert paths.shard(0).read_bytes() == b"damaged"


@pytest.mark.parametrize(
    "look",
    [
        lambda paths, manifest: published_shards(PLAN, paths, manifest.fingerprint),
        lambda paths, manifest: [*good_shards(paths, SHARDS, manifest.fingerprint, print)],
        lambda paths, manifest: build_index(paths),
        lambda paths, manifest: read_account(paths, manifest),
        lambda paths, manifest: open_run(paths.root),
    ],
    ids=["resume", "status", "index", "report", "open_run"],
)
def test_nobody_takes_it_for_damage(paths, look):
    paths.shard(1).unlink()
    paths.shard(1).symlink_to("shard-000001.h5")
    with pytest.raises(StoreError, match=r"shard-000001\.h5: cannot be read now: a link"):
        look(paths, read_manifest(paths))


WITHOUT = "import sys; sys.modules['hdf5plugin'] = None; {}"
MAIN = WITHOUT.format("from shardcam.jobs.cli import main; main()")


@pytest.mark.process
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_missing_codec_is_one_line_and_no_damage(tmp_path, codec):
    paths = make_run(RunDir(tmp_path / "run"), codec)
    before = held(paths)
    process = start("verify", paths.root, "--deep", "--repair", program=("-c", MAIN))
    out, err = process.communicate()
    assert process.returncode == 1, (out, err)
    needs = (
        f"it is packed with {codec}, which needs hdf5plugin: install shardcam with its extra codecs"
    )
    assert err == f"shardcam: {paths.root}: cannot be read here: {needs}\n"
    assert held(paths) == before


ROWS = """
from shardcam.engine.errors import StoreError
from shardcam.engine.rundir.shard_file import check_shard
try:
    print(check_shard(sys.argv[1], 0, sys.argv[2], True))
except StoreError as error:
    print(error)
"""


@pytest.mark.process
def test_a_file_itself_tells_which_codec_it_needs(tmp_path):
    """Where run.json is not at hand, or says something else."""
    paths = make_run(RunDir(tmp_path / "run"), "zstd")
    with h5py.File(paths.shard(0)) as file:
        fingerprint = file.attrs["fingerprint"]
    code = WITHOUT.format(ROWS)
    out, err = start(paths.shard(0), fingerprint, program=("-c", code)).communicate()
    told = f"it is packed with zstd, which {needs('hdf5plugin')}"
    assert out == f"{paths.shard(0)}: cannot be read here: {told}\n", err
