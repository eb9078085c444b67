"""Files at a URL: whole or not at all, the first one stays, and errors are one line."""

import errno
import os
import threading

import pytest

from shardcam.engine.errors import ConfigError, DiskFull, StoreError
from shardcam.engine.io import files, store, urls
from shardcam.engine.io import remote_file as streams
from shardcam.engine.rundir.run_dir import RunDir, UrlRunDir
from shardcam.engine.rundir.scratch import VARIABLE
from shardcam.engine.types import shard_name
from tests.jobs.command import start

LARGE = 120 << 20  # bytes that s3fs uploads in parts


@pytest.fixture
def gs(monkeypatch):
    """An emulator of Google's protocol. It does not know conditions, nor moving."""
    server = pytest.importorskip("gcp_storage_emulator.server")
    emulator = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    emulator.start()
    port = emulator._api._httpd.socket.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.setitem(__import__("fsspec").config.conf, "gs", {"token": "anon"})
    yield "gs://bucket"
    emulator.stop()


@pytest.fixture(params=["memory", "s3", "gs", "file"])
def base(request, tmp_path):
    """A place of each kind; `file` stands for those whose uploads can be seen half done."""
    if request.param == "memory":
        request.getfixturevalue("memory")
        return "memory://bucket/run"
    if request.param == "file":
        return f"file://{tmp_path}/run"
    given = request.getfixturevalue(request.param)
    return f"{given if request.param == 'gs' else given.bucket}/run"


@pytest.fixture
def paths(base, tmp_path):
    (tmp_path / "scratch").mkdir()
    return UrlRunDir(tmp_path / "scratch", base)


def written(path, data):
    path.write_bytes(data)
    return path


def test_the_first_stays_unless_it_is_replaced(paths, base, tmp_path):
    first, second = written(tmp_path / "1", b"first"), written(tmp_path / "2", b"second")
    assert not store.exists(f"{base}/a.h5")
    assert store.upload(first, f"{base}/a.h5", create=True) is True
    assert store.upload(second, f"{base}/a.h5", create=True) is False
    assert paths.fetch(paths.root / "a.h5")
    assert (paths.root / "a.h5").read_bytes() == b"first"
    written(paths.root / "a.h5", b"second")
    paths.put(paths.root / "a.h5")
    assert files.read(f"{base}/a.h5") == b"second"
    assert paths.names(paths.root) == {"a.h5"}


def test_names_are_those_of_now(paths, base, tmp_path):
    assert paths.names(paths.shards) == set()
    for number in (0, 12):
        store.upload(written(tmp_path / "1", b"x"), paths.shard(number), create=True)
    assert paths.names(paths.shards) == {"shard-000000.h5", "shard-000012.h5"}
    paths.remove(paths.shards / shard_name(0))
    assert paths.names(paths.shards) == {"shard-000012.h5"}
    assert not paths.fetch(paths.root / "none")
    paths.require_writable()
    assert not [name for name in paths.names(paths.root) if "shardcam" in name]


def test_pictures_go_up_together(paths, tmp_path):
    pictures = [written(tmp_path / f"{i}.jpg", bytes([i])) for i in range(5)]
    store.upload_all(pictures, paths.place(paths.overlays))
    assert paths.names(paths.overlays) == {f"{i}.jpg" for i in range(5)}
    assert files.read(f"{paths.place(paths.overlays)}/3.jpg") == bytes([3])


def test_files_are_looked_at_and_fetched_together(paths, base, tmp_path):
    data = {paths.shards / f"shard-{i:06d}.h5": bytes([i]) * (70_000 * i) for i in range(4)}
    for path, content in data.items():
        store.upload(written(tmp_path / "1", content), paths.place(path))
    sizes = store.sizes(paths.place(paths.shards))
    assert sizes == {path.name: len(content) for path, content in data.items()}
    urls_of = {paths.place(path): sizes[path.name] for path in data}
    for blocks, content in zip(streams.open_together(urls_of), data.values(), strict=True):
        assert blocks.read(len(content) + 1) == content
        assert blocks.error is None
    paths.fetch_all(list(data))
    assert {path: path.read_bytes() for path in data} == data
    with pytest.raises(StoreError, match=rf"^{base}/shards/none.h5: .*no such file"):
        paths.fetch_all([*data, paths.shards / "none.h5"])
    assert store.sizes(paths.place(paths.set_aside)) == {}


def test_a_moved_file_has_the_other_name_only(s3, tmp_path):
    paths = UrlRunDir(tmp_path, f"{s3.bucket}/run")
    store.upload(written(tmp_path / "1", b"x"), paths.shard(0))
    store.move(paths.shard(0), paths.place(paths.set_aside / "shard-000000.h5"))
    assert paths.names(paths.set_aside) == {"shard-000000.h5"}
    assert not paths.exists(paths.shards / shard_name(0))


@pytest.mark.process
@pytest.mark.parametrize("size", [10, LARGE])
def test_of_publishers_at_once_one_wins(s3, tmp_path, size):
    """Both have looked and found nothing before either writes."""
    sources = [written(tmp_path / str(i), bytes([i]) * size) for i in range(2)]
    both = threading.Barrier(2)
    seen = set()

    def wait(path):
        if threading.get_ident() not in seen and len(seen) < 2:
            seen.add(threading.get_ident())
            both.wait(10)

    s3.on_put = wait
    won = {}

    def publish(i):
        won[i] = store.upload(sources[i], f"{s3.bucket}/a", create=True)

    # fsspec has one thread for all: the second publisher is another process.
    code = (
        "import sys; from pathlib import Path; from shardcam.engine.io.store import upload; "
        "print(upload(Path(sys.argv[1]), sys.argv[2], create=True))"
    )
    other = start(sources[1], f"{s3.bucket}/a", program=("-c", code))
    publish(0)
    out, err = other.communicate(timeout=60)
    assert {won[0], out.strip() == "True"} == {True, False}, (won, out, err)
    winner = 0 if won[0] else 1
    assert files.read_range(f"{s3.bucket}/a", 0, 10) == bytes([winner]) * 10


def test_nothing_is_seen_of_a_broken_upload(tmp_path, monkeypatch):
    """Where uploads are not atomic, they have another name until they are whole."""
    import fsspec

    system = fsspec.filesystem("file", use_listings_cache=False)
    paths = UrlRunDir(tmp_path / "scratch", f"file://{tmp_path}/run")
    seen = []

    def broken(_self, source, target, **_options):
        seen.append(target)
        with open(target.removeprefix("file://"), "wb") as stream:
            stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(system), "put_file", broken)
    with pytest.raises(DiskFull, match="No space left") as caught:
        store.upload(written(tmp_path / "1", b"x"), paths.shard(0), create=True)
    assert str(paths.shard(0)) in str(caught.value)
    assert seen and seen[0] != paths.shard(0)
    assert list((tmp_path / "run" / "shards").iterdir()) == []


def test_a_few_failures_are_waited_out(s3, tmp_path):
    s3.failing = 3
    assert store.upload(written(tmp_path / "1", b"x"), f"{s3.bucket}/a", create=True)
    assert files.read(f"{s3.bucket}/a") == b"x"


def test_errors_name_the_url(s3, tmp_path, monkeypatch):
    source = written(tmp_path / "1", b"x")
    with pytest.raises(StoreError, match=r"^s3://no-such-bucket/a: .*no such file or bucket"):
        store.upload(source, "s3://no-such-bucket/a")
    monkeypatch.setattr(urls, "_PAUSES", (0.01,))
    s3.stop()
    try:
        with pytest.raises(StoreError, match=rf"^{s3.bucket}/a: cannot be written: .*onnect"):
            store.upload(source, f"{s3.bucket}/a", create=True)
        with pytest.raises(StoreError, match=rf"^{s3.bucket}: cannot be read: .*onnect"):
            store.names(s3.bucket)
    finally:
        s3.start()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/run", "for reading only"),
        ("s3://me:hunter2@bucket/run", "with credentials"),
        ("s3://bucket/run?versionId=1", "expected s3://BUCKET/FOLDER"),
        ("s3:///run", "expected s3://BUCKET/FOLDER"),
        ("nonsense://bucket/run", "unknown scheme"),
    ],
)
def test_urls_that_cannot_be_written_to(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        RunDir.open(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_url_is_a_path(tmp_path):
    found = RunDir.open(f"file://{tmp_path}/a%20b")
    assert (type(found), found.home) == (RunDir, tmp_path / "a b")


@pytest.mark.process
def test_scratch_of_dead_processes_is_removed(tmp_path, monkeypatch):
    """Killed, a process leaves its directory; the next one removes it, and its own at its end."""
    code = (
        "import os, signal; from shardcam.engine.rundir.run_dir import RunDir; "
        "print(RunDir.open('memory://b/run').root); {}"
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    killed = start(program=("-c", code.format("os.kill(os.getpid(), signal.SIGKILL)")))
    killed.communicate(timeout=60)
    assert len(list(tmp_path.iterdir())) == 1
    own = start(program=("-c", code.format(f"print(len(os.listdir(os.environ['{VARIABLE}'])))")))
    out, err = own.communicate(timeout=60)
    assert out.splitlines()[1:] == ["1"], err
    assert list(tmp_path.iterdir()) == []
