"""The HDF5 sink: its promises, its file format, and a disk or a process that fails."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import textwrap
from dataclasses import replace

import h5py
import numpy as np
import pytest

from shardcam import kernels
from shardcam.engine.errors import ConfigError, DiskFull, RunDirectoryError
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.rundir.shard_file import check_shard, read_failures
from shardcam.engine.types import Flag
from tests.child import run_python
from tests.rundir.sink_conformance import (
    CLASSES,
    KEY_BYTES,
    LAYER,
    PROMISES,
    SAVED,
    SPECS,
    TARGETS,
    VIEW,
    SinkCase,
    failure_of,
    make_batch,
    make_shard,
    publish,
    rows_of,
)
from tests.rundir.test_shard_file import seal


@pytest.fixture
def paths(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def sink(paths):
    return Hdf5Sink(paths, SPECS, "f00d")


def left(paths):
    return sorted(path.name for path in paths.staging.iterdir())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_the_promises_of_a_sink(promise, sink, paths):
    promise(
        SinkCase(
            sink,
            rows=lambda shard: rows_of(paths.shard(shard.index)),
            failures=lambda shard: read_failures(paths.shard(shard.index)),
            published=lambda shard: paths.shard(shard.index).exists(),
            leftovers=lambda: left(paths),
        )
    )


@pytest.mark.process
def test_plain_h5py_reads_it_with_no_plugin(sink, paths):
    publish(sink, make_shard(), failed=1)
    code = f"""
        import h5py
        with h5py.File({str(paths.shard(0))!r}) as file:
            assert file["key"].asstr()[0] == "größe/0000000.png"
            assert file["cam/stage.conv/map"].shape == (5, {TARGETS}, 5, 7)
            attributes = dict(file.attrs)
            flags, flagged = file["flags"][:], attributes.pop("samples_flagged")
            assert flagged.tolist() == [sum(flags >> bit & 1) for bit in range(8)]
            assert attributes == dict(schema=1, fingerprint="f00d", shard=0,
                samples_listed=6, samples_ok=5, samples_failed=1, complete=True)
            def check(name, item):
                if isinstance(item, h5py.Dataset):
                    assert item.attrs["axes"][0] in "NF" and item.attrs["unit"], name
                    assert item.compression == "gzip" and item.fletcher32, name
            file.visititems(check)
        """
    nowhere = {**os.environ, "HDF5_PLUGIN_PATH": "/nonexistent"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=nowhere)


def test_flags_are_stored_as_the_kernels_set_them_and_say_what_they_always_said():
    assert [(flag.name, flag.value) for flag in Flag] == [
        ("NON_FINITE", kernels.NON_FINITE),
        ("ALL_ZERO", kernels.ALL_ZERO),
        ("CONSTANT", kernels.CONSTANT),
        ("TOO_LARGE", 8),
        ("DAMAGED", 16),
        ("SMALL_RANGE", 32),
    ]
    (spec,) = (spec for spec in SPECS if spec.name == "flags")
    assert spec.unit == (
        "bits: 1 non-finite map, 2 all-zero map after ReLU, 4 constant map, "
        "8 activation too large for f2, 16 damaged file, 32 picture uses little of its range"
    )


def test_names_shapes_and_types_are_those_of_the_documentation(sink, paths):
    publish(sink, make_shard(size=4), failed=1)
    with h5py.File(paths.shard(0)) as file:
        described = {
            name: (file[name].shape, file[name].dtype.str[1:])
            for spec in SPECS
            for name in [spec.name]
        }
    assert described == {
        "key": ((3,), "S19"),
        "sample": ((3,), "i8"),
        "label": ((3,), "i4"),
        "image_size": ((3, 2), "i4"),
        "crop": ((3, 4), "f4"),
        "target": ((3, 2), "i4"),
        "score": ((3, 2), "f4"),
        "top_class": ((3, 3), "i4"),
        "top_score": ((3, 3), "f4"),
        "flags": ((3,), "u1"),
        "cam/stage.conv/map": ((3, 2, 5, 7), "f2"),
        "cam/stage.conv/scale": ((3, 2), "f4"),
        "activation/stage.conv": ((3, 4, 5, 7), "f4"),
        "pooled/stage.conv": ((3, 4), "f4"),
        "logits": ((3, 3), "f4"),
        "heatmap": ((3, 2, 8, 10), "u1"),
        "failure/key": ((1,), "S19"),
        "failure/sample": ((1,), "i8"),
        "failure/stage": ((1,), "S16"),
        "failure/error": ((1,), "S32"),
        "failure/message": ((1,), "S256"),
    }


def test_only_what_was_asked_for_has_a_dataset():
    names = {
        spec.name
        for spec in dataset_specs((LAYER,), (LAYER,), 1000, 1, VIEW, 9, ("maps", "overlays"))
    }
    assert {"cam/stage.conv/map", "top_class"} < names
    assert not {name.partition("/")[0] for name in names} & {
        "activation",
        "pooled",
        "logits",
        "heatmap",
    }


def test_a_dense_layer_has_activations_and_no_map():
    dense = replace(LAYER, name="fc1", shape=(4096,))
    specs = {spec.name: spec for spec in dataset_specs((), (dense,), 10, 1, VIEW, 9, SAVED)}
    assert specs["activation/fc1"].row_shape == (4096,)
    assert "cam/fc1/map" not in specs


def test_two_layers_that_would_share_a_name_are_refused():
    twin = replace(LAYER, name="stage.conv")
    with pytest.raises(ConfigError, match=r"stage\.conv"):
        dataset_specs((LAYER, twin), (), CLASSES, TARGETS, VIEW, 9, ("maps",))


def test_a_batch_that_lacks_what_was_asked_for_is_refused(sink, paths):
    shard = make_shard()
    batch = replace(make_batch(shard.samples), logits=None)
    with pytest.raises(ValueError, match="no logits"):
        sink.open(shard).write(batch)
    assert left(paths) == []


def test_a_batch_of_another_shape_is_refused(sink):
    batch = make_batch(make_shard().samples)
    with pytest.raises(ValueError, match="/logits"):
        sink.open(make_shard()).write(replace(batch, logits=batch.logits[:, :1]))


def test_a_key_longer_than_announced_is_refused_not_cut(sink):
    shard = make_shard()
    long = (replace(shard.samples[0], key="x" * 20), *shard.samples[1:])
    with pytest.raises(ValueError, match="longer than 19 bytes"):
        sink.open(shard).write(make_batch(long))


def test_blocks_larger_and_smaller_than_a_chunk_keep_their_rows(paths):
    """One row of these activations fills a chunk, and 512 rows of the other columns do not."""
    layer = replace(LAYER, shape=(8, 150, 150))
    shard = make_shard(size=7)
    specs = dataset_specs(
        (layer,), (layer,), CLASSES, TARGETS, VIEW, KEY_BYTES, ("activations", "logits")
    )
    activations = np.arange(7 * 180_000, dtype=np.float32).reshape(7, 8, 150, 150)
    writer = Hdf5Sink(paths, specs, "f00d").open(shard)
    for start, end in ((0, 1), (1, 6), (6, 7)):
        batch = make_batch(shard.samples[start:end])
        writer.write(replace(batch, activations={LAYER.name: activations[start:end]}))
    writer.commit([])
    with h5py.File(paths.shard(0)) as file:
        stored = file["activation/stage.conv"]
        assert stored.chunks == (1, 8, 150, 150)
        assert file["logits"].chunks == (7, 3)
        np.testing.assert_array_equal(stored[:], activations)


def test_the_disk_is_given_its_work_while_the_shard_grows(sink, paths, monkeypatch):
    asked = []
    monkeypatch.setattr("shardcam.engine.rundir.hdf5_sink._WRITEBACK_BYTES", 4096)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: asked.append((start, size)))
    publish_large(paths)
    assert len(asked) > 1
    assert [start for start, _ in asked] == [0, *np.cumsum([size for _, size in asked])[:-1]]


@pytest.mark.parametrize("character", ["é", "漢", "🙂"])
def test_a_long_message_is_cut_between_characters(sink, paths, character):
    shard = make_shard(size=1)
    message = "x" + character * 300
    sink.open(shard).commit([failure_of(shard.samples[0], message)])
    stored = read_failures(paths.shard(0))[0].message
    assert message.startswith(stored)
    assert 256 - 4 < len(stored.encode()) <= 256


def test_a_flipped_bit_is_found_by_the_deep_check(sink, paths):
    publish(sink, make_shard())
    path = paths.shard(0)
    with h5py.File(path) as file:
        chunk = file["activation/stage.conv"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    seal(path)  # HDF5's own checksums speak too
    assert check_shard(path, 0, "f00d") is None, "the quick check reads no chunks"
    assert str(path) in check_shard(path, 0, "f00d", deep=True)


@pytest.mark.parametrize(("what", "back"), [("place", 5), ("filter mask", 28)])
def test_a_flipped_bit_in_the_list_of_chunks_is_found_too(sink, paths, what, back):
    """There HDF5 has no checksum: it reads such a chunk as zeros, or unfiltered."""
    publish(sink, make_shard())
    path = paths.shard(0)
    with h5py.File(path) as file:
        good = file["logits"][:]
        at = file["logits"].id.get_chunk_info(0).byte_offset
        pointer = struct.pack("<Q", at - file.userblock_size)
    content = bytearray(path.read_bytes())
    content[content.index(pointer) - back] ^= 1
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert (file["logits"][:] != good).any(), f"plain h5py does not notice the {what}"
    seal(path)
    assert check_shard(path, 0, "f00d", deep=True) is not None


def test_a_file_that_does_not_read_back_is_not_published(sink, paths, monkeypatch):
    check = "shardcam.engine.rundir.hdf5_sink.check_shard"
    monkeypatch.setattr(check, lambda *_: "it has lost a row")
    with pytest.raises(RunDirectoryError, match="it has lost a row"):
        publish(sink, make_shard())
    assert not paths.shard(0).exists()
    assert left(paths) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EACCES, RunDirectoryError),
        (errno.EROFS, RunDirectoryError),
        (errno.EIO, RunDirectoryError),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["link", "fsync"])
def test_an_error_of_the_disk_is_one_line_with_the_directory(
    sink, paths, monkeypatch, number, expected, call
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    shard = make_shard()
    writer = sink.open(shard)
    writer.write(make_batch(shard.samples))
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(expected) as caught:
        writer.commit([])
    monkeypatch.undo()
    assert str(caught.value).startswith(str(paths.shards))
    assert "\n" not in str(caught.value)
    assert ("run the same command again" in str(caught.value)) == (expected is DiskFull)
    assert left(paths) == []
    assert publish(sink, shard), "the same command resumes"


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from shardcam.engine.errors import DiskFull
    from shardcam.engine.rundir.run_dir import RunDir
    from tests.rundir.test_hdf5_sink import publish_large

    paths, limit = RunDir(Path(sys.argv[1])), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        publish_large(paths)
    except DiskFull as error:
        assert str(error).startswith(str(paths.shards)), error
        assert not list(paths.staging.iterdir())
        assert not paths.shard(0).exists()
        print("DiskFull")
    """


def publish_large(paths):
    shard = make_shard(size=1000)
    writer = Hdf5Sink(paths, SPECS, "f00d").open(shard)
    for start in range(0, 1000, 50):
        writer.write(make_batch(shard.samples[start : start + 50], seed=start))
    writer.commit([])
    return paths.shard(0).stat().st_size


@pytest.fixture(scope="module")
def large_size(tmp_path_factory):
    return publish_large(RunDir(tmp_path_factory.mktemp("large")))


@pytest.mark.process
@pytest.mark.parametrize("fraction", [0, 0.01, 0.4, 0.8, 0.999])
def test_hdf5_that_cannot_write_does_not_crash_the_process(paths, large_size, fraction):
    """With HDF5's own driver, the process dies of SIGSEGV at exit."""
    done = run_python(FULL_DISK, paths.root, int(large_size * fraction))
    assert (done.stdout.strip(), done.returncode) == ("DiskFull", 0), done.stderr


STOPPED = """
    import signal, sys
    from pathlib import Path
    from shardcam.engine.rundir.run_dir import RunDir
    from tests.rundir.test_hdf5_sink import publish_large

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    signal.signal(signal.SIGALRM, stop)
    stopped = 0
    for i in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, (i + 1) * 0.0005)
            publish_large(RunDir(Path(sys.argv[1], str(i))))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Stop:
            stopped += 1
    print("stopped", "often" if stopped > 20 else stopped)
    """


@pytest.mark.process
def test_a_signal_handler_that_raises_at_any_moment_does_no_harm(paths):
    """Every exception is the handler's own, and HDF5 never crashes."""
    done = run_python(STOPPED, paths.root)
    assert (done.stdout.strip(), done.returncode) == ("stopped often", 0), done.stderr


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stop_inside_a_write_reaches_the_caller(sink, paths, monkeypatch, stop):
    def interrupted(*_):
        raise stop

    shard = make_shard()
    writer = sink.open(shard)
    monkeypatch.setattr("shardcam.engine.rundir.staging.memoryview", interrupted, raising=False)
    with pytest.raises(stop):
        writer.commit([failure_of(sample) for sample in shard.samples])
    assert left(paths) == []


def test_a_run_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    sink = Hdf5Sink(RunDir(tmp_path / "file"), SPECS, "f00d")
    with pytest.raises(RunDirectoryError, match="file"):
        sink.open(make_shard())


def test_without_hard_links_the_first_publisher_still_wins(sink, paths, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert publish(sink, make_shard()) is True
    before = paths.shard(0).read_bytes()
    assert publish(sink, make_shard(), failed=1) is False
    assert paths.shard(0).read_bytes() == before
    assert left(paths) == ["publish.lock"]


def test_a_link_that_nfs_made_but_reported_as_existing_counts(sink, paths, monkeypatch):
    link = os.link

    def twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert publish(sink, make_shard()) is True


KILLED = """
    import os, sys
    from pathlib import Path
    import shardcam.engine.rundir.hdf5_sink as hdf5
    from shardcam.engine.rundir.run_dir import RunDir
    from tests.rundir.sink_conformance import SPECS, make_batch, make_shard

    shard = make_shard()
    writer = hdf5.Hdf5Sink(RunDir(Path(sys.argv[1])), SPECS, "f00d").open(shard)
    writer.write(make_batch(shard.samples))
    if sys.argv[2] == "sealed":
        os.link = lambda *_: os._exit(9)
        writer.commit([])
    os._exit(9)
    """


@pytest.mark.process
@pytest.mark.parametrize("moment", ["written", "sealed"])
def test_a_killed_writer_leaves_nothing_but_a_staging_file(sink, paths, moment):
    assert run_python(KILLED, paths.root, moment).returncode == 9
    assert [path.name for path in paths.shards.iterdir()] == [".tmp"]
    assert len(left(paths)) == 1
    live = sink.open(make_shard(index=1))
    assert paths.clean_staging() == 1
    assert [name.split("-")[1] for name in left(paths)] == ["000001"], "the live one stays"
    live.discard()
    assert publish(sink, make_shard())


def test_files_of_other_hosts_are_cleaned_only_when_old(paths):
    paths.staging.mkdir(parents=True)
    stranger = paths.staging / "shard-000000-another_host.1-1-0a0a0a0a.h5"
    stranger.touch()
    assert paths.clean_staging(older_than=3600) == 0
    os.utime(stranger, (0, 0))
    assert paths.clean_staging(older_than=3600) == 1
    assert left(paths) == []
