"""Reading a run: checks that speak, and an index that is not trusted blindly."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import zlib

import h5py
import numpy as np
import pytest

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.errors import ConfigError, RunDirectoryError, StoreError
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run
from shardcam.engine.rundir.shard_file import (
    ShardSummary,
    check_shard,
    read_failures,
    read_shard_summary,
)
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.rundir.user_block import SIZE, write_user_block
from tests.child import printed_by
from tests.rundir.sink_conformance import (
    LAYER,
    SPECS,
    TARGETS,
    failure_of,
    make_batch,
    make_shard,
    publish,
)

FAILED = (0, 6, 2)


def make_run(root, failed=FAILED):
    """A run of shards of 6 samples, one for each number of failures."""
    paths = RunDir(root)
    plan = {"samples": 6 * len(failed), "shards": len(failed), "shard_size": 6}
    manifest = Manifest({"method": "gradcam"}, {"schema": 1}, plan, {})
    begin_run(paths, manifest)
    sink = Hdf5Sink(paths, SPECS, manifest.fingerprint)
    for index, count in enumerate(failed):
        publish(sink, make_shard(index), count)
    build_index(paths)
    return paths, manifest.fingerprint


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("good") / "run")


@pytest.fixture
def run(good, tmp_path):
    """A copy that a test may damage: its paths and its fingerprint."""
    paths, fingerprint = good
    return RunDir(shutil.copytree(paths.root, tmp_path / "run")), fingerprint


def test_a_summary_is_what_the_file_says_of_itself(good):
    paths, fingerprint = good
    path = paths.shard(2)
    size = path.stat().st_size
    with h5py.File(path) as file:
        stored = file["flags"][:]
    flagged = tuple(int((stored & (1 << bit) > 0).sum()) for bit in range(8))
    assert sum(flagged) > 0
    summary = ShardSummary(2, 6, 4, 2, fingerprint, 1, size, True, flagged)
    assert read_shard_summary(path) == summary


def test_the_flags_of_a_file_that_does_not_count_them_are_counted(run):
    run_dir, _ = run
    expected = read_shard_summary(run_dir.shard(2)).flagged
    with h5py.File(run_dir.shard(2), "r+") as file:
        del file.attrs["samples_flagged"]
    assert read_shard_summary(run_dir.shard(2)).flagged == expected


def test_failures_are_read_back(good):
    paths, _ = good
    expected = [failure_of(sample) for sample in make_shard(2).samples[4:]]
    assert read_failures(paths.shard(2)) == expected


@pytest.mark.parametrize("deep", [False, True])
def test_a_good_shard_has_no_problem(good, deep):
    paths, fingerprint = good
    assert [check_shard(paths.shard(i), i, fingerprint, deep) for i in range(3)] == [None] * 3


def seal(path):
    """Give a file that was changed on purpose its checksum again."""
    with path.open("r+b", buffering=0) as stream:
        write_user_block(stream)


def with_attribute(name, value):
    def damage(file):
        file.attrs[name] = value

    return damage


def with_a_row_less(file):
    file["score"].resize(3, axis=0)


def without_failures(file):
    del file["failure/sample"]


def with_one_sample_twice(file):
    file["sample"][1] = file["sample"][0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (with_attribute("fingerprint", "beef"), "of another run: fingerprint beef"),
        (with_attribute("shard", 7), "holds shard 7, not 2"),
        (with_attribute("samples_listed", 9), "9 samples listed, but 4 done and 2 failed"),
        (with_attribute("complete", False), "not complete"),
        (with_a_row_less, "score has 3 rows, not 4"),
        (lambda file: file.attrs.pop("samples_ok"), "samples_ok"),
        (with_attribute("shard", "two"), "an attribute that is not a number"),
        (without_failures, "there is no failure/sample in it"),
        (with_one_sample_twice, "a sample appears twice"),
    ],
)
def test_a_damaged_shard_is_described_in_one_line(run, damage, words):
    paths, fingerprint = run
    path = paths.shard(2)
    with h5py.File(path, "r+") as file:
        damage(file)
    seal(path)
    problem = check_shard(path, 2, fingerprint, deep=True)
    assert problem is not None
    assert problem.startswith(f"{path}: ")
    assert words in problem
    assert "\n" not in problem


@pytest.mark.parametrize("content", [b"", b"not HDF5", "half"], ids=["empty", "alien", "half"])
def test_an_unreadable_shard_is_described_in_one_line(run, content):
    paths, fingerprint = run
    path = paths.shard(2)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    problem = check_shard(path, 2, fingerprint)
    assert problem is not None
    assert problem.startswith(f"{path}: unreadable")
    assert "\n" not in problem
    with pytest.raises(RunDirectoryError, match="unreadable"):
        read_shard_summary(path)


def flipped(content, at, bit=0):
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def test_a_flipped_bit_anywhere_in_a_file_is_seen(run):
    """Also where HDF5 has no checksum: in its padding, its lists of chunks, the user block."""
    paths, fingerprint = run
    path, random = paths.shard(2), np.random.default_rng(0)
    whole = path.read_bytes()
    padding = [found.start() + 20 for found in re.finditer(rb"\0{40,}", whole)]
    assert len(padding) > 5
    places = {*range(SIZE), SIZE, len(whole) - 1, *padding, *random.integers(0, len(whole), 200)}
    for at in sorted(places):
        path.write_bytes(flipped(whole, at, random.integers(8)))
        problem = check_shard(path, 2, fingerprint, deep=True)
        assert problem == f"{path}: damaged: its file checksum does not match", at
    path.write_bytes(whole)
    assert check_shard(path, 2, fingerprint, deep=True) is None


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"\0"])
def test_a_byte_less_or_more_is_seen(run, change):
    paths, fingerprint = run
    paths.shard(2).write_bytes(change(paths.shard(2).read_bytes()))
    assert "checksum" in check_shard(paths.shard(2), 2, fingerprint, deep=True)


def test_the_checksum_is_text_that_other_tools_can_compare(good):
    content = good[0].shard(2).read_bytes()
    assert content[:SIZE].rstrip(b"\0").decode().splitlines() == [
        "shardcam: HDF5 begins at byte 512",
        f"bytes from there on: {len(content) - 512}",
        f"their CRC-32, as in zlib: {zlib.crc32(content[512:]):08x}",
    ]


def test_a_flipped_bit_is_seen_at_a_url(good, memory):
    whole = good[0].shard(2).read_bytes()
    for at in (None, 0, SIZE - 1, SIZE, len(whole) - 1):
        memory.pipe_file("/shard.h5", whole if at is None else flipped(whole, at))
        problem = check_shard("memory://shard.h5", 2, good[1], deep=True)
        assert (problem is None) == (at is None), at


def test_files_of_before_without_a_checksum_are_still_checked(run):
    paths, fingerprint = run
    path = paths.shard(2)
    whole = path.read_bytes()[SIZE:]
    path.write_bytes(whole)
    assert check_shard(path, 2, fingerprint, deep=True) is None
    assert read_shard_summary(path).checksum is False
    with h5py.File(path) as file:
        at = file["activation/stage.conv"].id.get_chunk_info(0).byte_offset
    path.write_bytes(flipped(whole, at + 9))
    assert "unreadable" in check_shard(path, 2, fingerprint, deep=True)
    path.write_bytes(whole)
    with open_run(paths.root) as opened:
        assert opened["sample"][6:].tolist() == [12, 13, 14, 15]


def no_link_is_followed(path):
    path.unlink()
    path.symlink_to(path.with_name("shard-000001.h5"))


def no_pipe_is_waited_for(path):
    path.unlink()
    os.mkfifo(path)


def no_more_files_may_be_opened(path):
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_link_is_followed, "a link, which is not followed here"),
        (no_pipe_is_waited_for, "neither a file nor a folder"),
        (no_more_files_may_be_opened, "Too many open files"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_what_the_system_does_not_let_us_read_is_not_damaged(run, spoil, words, deep):
    paths, fingerprint = run
    path = paths.shard(2)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spoil(path)
    try:
        with pytest.raises(StoreError) as caught:
            check_shard(path, 2, fingerprint, deep)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert str(caught.value) == f"{path}: cannot be read now: {words}"


def test_a_disk_that_fails_in_the_middle_of_a_file_is_no_damage(good):
    """There h5py raises a KeyError, and has the number in its text alone."""
    path = good[0].shard(2)
    with (
        open("/proc/self/mem", "rb") as failing,
        pytest.raises(StoreError, match="cannot be read now: Input/output error"),
        reading(path) as file,
    ):
        os.dup2(failing.fileno(), file.id.get_vfd_handle())
        file["sample"]


@pytest.mark.parametrize("bug", [KeyError, TypeError, ValueError, OSError])
def test_a_bug_of_ours_is_not_called_damage(good, bug):
    with pytest.raises(bug, match="ours"), reading(good[0].shard(2)) as file:
        file["sample"][:]
        raise bug("ours")


def test_a_missing_shard_is_said_to_be_missing(run):
    paths, fingerprint = run
    assert check_shard(paths.shard(9), 9, fingerprint) == f"{paths.shard(9)}: missing"


def test_a_run_in_six_lines(good):
    paths, _ = good
    with open_run(str(paths.root)) as run:
        assert run.config == {"method": "gradcam"}
        assert run.layers == ("stage.conv",)
        assert len(run) == len(run.keys) == 10
        assert run.keys[0] == "größe/0000000.png"
        assert run["sample"][6:].tolist() == [12, 13, 14, 15]


def test_raw_maps_are_maps_times_scale(good):
    paths, _ = good
    samples = make_shard(0).samples
    batches = [make_batch(samples[:2], seed=0), make_batch(samples[2:], seed=2)]
    maps = [batch.maps[LAYER.name] for batch in batches]
    raw = np.concatenate([m.normalized * m.scale[..., None, None] for m in maps])
    with open_run(paths.root) as run:
        cam = run.cam("stage/conv")
        assert cam.shape == (10, TARGETS, 5, 7)
        assert len(cam) == 10
        for rows in (slice(0, 6), 3, (slice(0, 6), 1), (3, 0), [0, 5]):
            read = cam[rows]
            assert read.dtype == np.float32
            np.testing.assert_allclose(read, raw[rows], rtol=0, atol=2**-11 * abs(raw).max())


def test_a_vanished_shard_is_named_where_hdf5_is_silent(run):
    paths, _ = run
    paths.shard(0).unlink()
    with h5py.File(paths.index) as index:
        assert index["sample"][0] == -9, "plain h5py makes rows up"
    with pytest.raises(RunDirectoryError, match=r"shard-000000\.h5: missing"):
        open_run(paths.root)


def test_a_vanished_shard_without_rows_is_named_too(run):
    paths, _ = run
    paths.shard(1).unlink()
    with pytest.raises(RunDirectoryError, match="shard-000001"):
        open_run(paths.root)


def test_a_shard_that_is_not_the_indexed_one_is_named(run):
    paths, fingerprint = run
    paths.shard(2).unlink()
    publish(Hdf5Sink(paths, SPECS, fingerprint), make_shard(2), failed=3)
    with pytest.raises(RunDirectoryError, match="shard-000002"):
        open_run(paths.root)


def test_a_damaged_shard_is_named(run):
    paths, _ = run
    paths.shard(2).write_bytes(b"")
    with pytest.raises(RunDirectoryError, match=r"shard-000002.*unreadable"):
        open_run(paths.root)


def test_an_index_of_another_run_is_refused(run, tmp_path):
    paths, _ = run
    with h5py.File(paths.index, "r+") as index:
        index.attrs["fingerprint"] = "beef"
    with pytest.raises(RunDirectoryError, match="another run"):
        open_run(paths.root)


def test_an_index_that_lost_a_shard_is_refused(run):
    paths, _ = run
    with h5py.File(paths.index, "r+") as index:
        index.attrs["samples_ok"] = 16
    with pytest.raises(RunDirectoryError, match="add up"):
        open_run(paths.root)


def test_without_an_index_the_run_is_not_done(run):
    paths, _ = run
    paths.index.unlink()
    with pytest.raises(RunDirectoryError, match=f"not their index: shardcam index {paths.home}"):
        open_run(paths.root)
    paths.shard(2).unlink()
    words = "2 of 3 shards are done; the same extract command completes it"
    with pytest.raises(RunDirectoryError, match=words):
        open_run(paths.root)


def test_an_index_of_half_a_run_warns(run):
    paths, _ = run
    paths.shard(2).unlink()
    build_index(paths)
    with pytest.warns(UserWarning, match="2 of the run's 3 shards"):
        open_run(paths.root).close()


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"run\.json"):
        open_run(tmp_path)


def test_a_codec_that_nobody_knows_is_told(run):
    paths, _ = run
    text = paths.run_json.read_text().replace('"method"', '"codec": "bzip", "method"')
    paths.run_json.write_text(text)
    with pytest.raises(
        RunDirectoryError, match=r"run\.json: its codec 'bzip' is not one of none, "
    ):
        open_run(paths.root)


def test_what_failed_is_no_column(good):
    """Its rows are other samples, which a selection would mix up with its own."""
    with open_run(good[0].root) as run, pytest.raises(ConfigError, match="see failures"):
        run["failure/key"]


def test_a_moved_run_is_read(run, tmp_path):
    paths, _ = run
    moved = paths.root.rename(tmp_path / "moved")
    with open_run(moved) as opened:
        assert opened["sample"][:3].tolist() == [0, 1, 2]


SHARDS = 300
MANY = """
    import json, resource, sys
    import h5py
    from shardcam.engine.analysis.open_run import open_run
    from shardcam.engine.rundir.run_dir import RunDir
    from shardcam.engine.rundir.shard_index import build_index
    from pathlib import Path

    paths = RunDir(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    build_index(paths)
    with h5py.File(paths.index) as index:
        print("plain", (index["sample"][:] == -9).any())
    with open_run(paths.root) as run:
        every = run["sample"][:].tolist()
        scattered = run["sample"][list(range(len(run)))[::-7]].tolist()
        print(json.dumps([every, scattered, [failure.sample for failure in run.failures]]))
    """


RAISED = """
    import resource, sys
    import h5py
    from shardcam.engine.analysis.open_run import open_run
    from shardcam.engine.rundir.open_files import ulimit_for

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    print(ulimit_for(300), ulimit_for(30))
    with open_run(sys.argv[1]) as run, h5py.File(sys.argv[1] + "/index.h5") as index:
        print((index["sample"][:] == run["sample"][:]).all())
    """


@pytest.mark.process
def test_after_open_run_plain_h5py_may_open_every_shard(tmp_path):
    """Before, it made up the rows of 177 of 300 shards."""
    paths, _ = make_run(tmp_path / "run", (0,) * SHARDS)
    assert printed_by(RAISED, paths.root).splitlines() == ["512 None", "True"]


@pytest.mark.process
def test_many_shards_are_read_in_full_at_a_low_limit_of_open_files(tmp_path):
    """Plain h5py is not told that it may not open them all, and makes rows up."""
    failed = [index % 100 == 7 for index in range(SHARDS)]
    paths, _ = make_run(tmp_path / "run", failed)
    printed = printed_by(MANY, paths.root).splitlines()
    lost = [6 * index + 5 for index in range(SHARDS) if failed[index]]
    expected = [i for i in range(6 * SHARDS) if i not in lost]
    assert printed[0] == "plain True"
    assert json.loads(printed[1]) == [expected, expected[::-7], lost]
