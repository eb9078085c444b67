"""What is kept of sources at URLs: the same bytes, bounded, and never damaged ones."""

import os

import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.io import fetch_many, urls
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.types import Sample
from tests.jobs.command import SMALL, assert_same, contents, shardcam
from tests.readers.sources import opened, pictures, png, write_folder, write_tar

PART = ("s3://bucket/a.tar", 512, 612)


def on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_put_is_got(tmp_path):
    cache = PartCache(tmp_path / "c", 10**6)
    assert cache.get(PART) is None
    for data in (b"x" * 100, b""):
        cache.put(PART, data)
        assert cache.get(PART) == PartCache(tmp_path / "c", 1).get(PART) == data
    assert cache.get(("s3://bucket/a.tar", 512, None)) is None


@pytest.mark.parametrize("damage", [b"", b"abc", b"12345678"])
def test_damaged_parts_are_fetched_again(tmp_path, damage):
    cache = PartCache(tmp_path, 10**6)
    cache.put(PART, b"x" * 100)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(damage)
    assert cache.get(PART) is None
    cache.put(PART, b"x" * 100)
    assert cache.get(PART) == b"x" * 100


def test_it_holds_no_more_than_its_size(tmp_path):
    """Several processes, which do not know what the others have added."""
    caches = [PartCache(tmp_path, 100_000) for _ in range(4)]
    for i in range(400):
        caches[i % 4].put(("s3://b/a", i, i + 1000), bytes(1000))
    assert 95_000 < on_disk(tmp_path) < 100_000 * (1 + 4 / 32)
    before = on_disk(tmp_path)
    late = PartCache(tmp_path, 100_000)
    late.put(("s3://b/late", 0, 9000), bytes(9000))
    assert on_disk(tmp_path) == before


def test_what_cannot_be_written_is_not_kept(tmp_path):
    cache = PartCache(tmp_path / "c", 10**6)
    (tmp_path / "c").rmdir()
    (tmp_path / "c").write_text("a file now")
    cache.put(PART, b"x")
    assert cache.get(PART) is None
    with pytest.raises(ConfigError, match=rf"^--cache {tmp_path}/c: File exists"):
        PartCache(tmp_path / "c", 1)


def test_what_a_killed_process_left_half_written_does_not_stay(tmp_path):
    cache = PartCache(tmp_path, 10**6)
    cache.put(PART, b"x" * 100)
    (part,) = (path for path in tmp_path.rglob("*") if path.is_file())
    old, new = (part.with_name(f".{part.name}-{i * 8}") for i in "01")
    other = part.with_name(".a file of the user's")
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    PartCache(tmp_path, 10**6).put(PART, b"x" * 100)
    assert set(part.parent.iterdir()) == {part, new, other}


def test_a_folder_of_somebody_else_is_shardcam(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match=rf"^--cache {tmp_path}: belongs to another user"):
        PartCache(tmp_path, 1)


def test_a_folder_that_cannot_be_had_is_told_before_the_work(tmp_path):
    write_folder(tmp_path / "images", pictures(2))
    (tmp_path / "file").write_text("a file")
    for cache, told in {
        "s3://bucket/c": "takes a folder of each machine, not a URL",
        tmp_path / "file": "File exists",
        tmp_path / "file" / "c": "Not a directory",
    }.items():
        code, out, err = shardcam(
            "extract", tmp_path / "images", "--model", "efficientnet_lite0", "--image-size", "64",
            "--out", tmp_path / "run", "--cache", cache, "--executor", "local",
        )  # fmt: skip
        assert (code, out, err) == (2, "", f"shardcam: --cache {cache}: {told}\n")
        assert not (tmp_path / "run").exists()


def test_other_files_of_the_same_name(web, tmp_path, monkeypatch):
    """One of another size, and one of another server."""
    reader = opened(f"{web.url}/a.png", cache=PartCache(tmp_path / "c", 10**6))

    def read(size):
        (found,) = reader.read_many([Sample("a.png", 0, -1, f"{web.url}/a.png", size)])
        return found

    for data in (b"old", b"new one"):
        (web.root / "a.png").write_bytes(data)
        assert read(len(data)) == data
    (web.root / "a.png").unlink()
    assert read(3) == b"old"
    assert urls.server_of("s3://b/a") != urls.server_of(web.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    first = urls.server_of("s3://b/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert urls.server_of("s3://b/a") != first
    monkeypatch.setattr(fetch_many, "server_of", lambda url: ("another",))
    assert isinstance(read(3), FileNotFoundError)


def test_a_cache_that_is_deleted_meanwhile_costs_nothing(web, tmp_path):
    names = write_folder(web.root / "tree", pictures(6))
    samples = [Sample(name, i, 0, f"{web.url}/tree/{name}", -1) for i, name in enumerate(names)]
    reader = opened(f"{web.url}/a.png", cache=PartCache(tmp_path / "c", 10**6))
    (tmp_path / "c").rmdir()
    assert list(reader.read_many(samples)) == [png(picture) for picture in pictures(6)]
    assert len(web.asked) == 6


def test_a_second_pass_asks_for_nothing(web, tmp_path):
    write_folder(web.root / "tree", pictures(6))
    names = write_folder(web.root, pictures(6))
    (web.root / "l.txt").write_text("\n".join(names))
    write_tar(web.root / "a.tar", [(f"{i}.png", png(p)) for i, p in enumerate(pictures(6))])
    cache = PartCache(tmp_path / "c", 10**6)
    for kind in ("l.txt", "a.tar"):
        reader = opened(f"{web.url}/{kind}", cache=cache)
        samples = list(reader.samples())
        for requests in (1 if kind == "a.tar" else 6, 0):
            web.asked.clear()
            assert list(reader.read_many(samples)) == [png(p) for p in pictures(6)]
            assert len(web.asked) == requests


def test_a_second_run_with_a_cache_is_the_same_run(web, tmp_path):
    paths = write_folder(web.root, pictures(20))
    (web.root / "bad.png").write_bytes(b"no picture")
    (web.root / "l.txt").write_text("\n".join([*paths, "bad.png"]))
    seen = []
    for run in ("first", "second"):
        web.asked.clear()
        code, _, err = shardcam(
            "extract", f"{web.url}/l.txt", *SMALL,
            "--max-pixels", 10**6, "--executor", "local", "--out", tmp_path / run,
            "--cache", tmp_path / "c", "--cache-size", 0.001,
        )  # fmt: skip
        assert code == 0, err
        seen.append(contents(tmp_path / run))
        images = [path for path, _ in web.asked if path.endswith(".png")]
        assert len(images) == (0 if run == "second" else 21), run
    assert_same(*seen)
    assert on_disk(tmp_path / "c") < 10**6
