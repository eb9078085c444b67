"""A run directory here and one at a URL do the same."""

import os
from pathlib import Path

import pytest

from shardcam.engine.errors import StoreError
from shardcam.engine.rundir.run_dir import RunDir, UrlRunDir
from shardcam.engine.types import shard_name


@pytest.fixture(params=["here", "memory", "s3"])
def run_dirs(request, tmp_path):
    """One run, as two processes see it."""
    roots = [tmp_path / name for name in ("one", "two")]
    if request.param == "here":
        roots = [roots[0]] * 2
    for root in set(roots):
        (root / "shards" / ".tmp").mkdir(parents=True)
    if request.param == "here":
        return [RunDir(root) for root in roots]
    given = request.getfixturevalue(request.param)
    base = "memory://bucket" if request.param == "memory" else given.bucket
    return [UrlRunDir(root, f"{base}/run") for root in roots]


def staged(run_dir, data):
    path = run_dir.staging_path("shard")
    path.write_bytes(data)
    return path


def held(run_dir, number):
    assert run_dir.fetch(run_dir.shards / shard_name(number))
    return (run_dir.shards / shard_name(number)).read_bytes()


def test_of_two_that_publish_a_shard_the_first_wins(run_dirs):
    one, two = run_dirs
    assert one.shard_numbers() == two.shard_numbers() == []
    assert one.publish(staged(one, b"first"), 12)
    assert not two.publish(staged(two, b"second"), 12)
    assert one.shard_numbers() == two.shard_numbers() == [12]
    assert held(two, 12) == b"first"
    two.remove(two.shards / shard_name(12))
    assert one.shard_numbers() == []


def test_a_shard_that_was_set_aside_comes_back_unless_another_took_its_place(run_dirs):
    one, two = run_dirs
    names = [shard_name(number) for number in (0, 1)]
    for number in (0, 1):
        one.publish(staged(one, b"old"), number)
        one.move(one.shards / names[number], one.set_aside / names[number])
    assert two.names(two.set_aside) == set(names)
    assert not two.exists(two.shards / names[0])
    two.publish(staged(two, b"new"), 1)
    for name in names:
        two.bring_back(two.set_aside / name, two.shards / name)
    assert (held(one, 0), held(one, 1)) == (b"old", b"new")
    assert one.names(one.set_aside) == set()


def test_a_text_is_there_whole_or_not_at_all(run_dirs):
    one, two = run_dirs
    one.write_atomically(one.report, "first\n")
    with pytest.raises(ZeroDivisionError), one.atomic_file(one.report) as stream:
        stream.write("second")
        raise ZeroDivisionError
    assert two.fetch(two.report)
    assert two.report.read_text() == "first\n"
    assert not two.fetch(two.failures)
    assert one.names(one.root) >= {"report.json"}
    assert not [path for path in one.root.iterdir() if path.name.startswith(".report")]


def test_files_that_are_handed_over_are_published(run_dirs):
    one, two = run_dirs
    one.overlays.mkdir()
    pictures = [one.overlays / f"{i}.jpg" for i in range(3)]
    for i, picture in enumerate(pictures):
        picture.write_bytes(bytes([i]))
    one.hand_over(pictures)
    assert two.names(two.overlays) == {"0.jpg", "1.jpg", "2.jpg"}
    one.hand_over([])


def test_a_folder_that_cannot_be_listed_is_not_called_unwritable(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", lambda _: os.read(-1, 1))
    with pytest.raises(StoreError, match="cannot be read now: Bad file descriptor"):
        RunDir(tmp_path).names(tmp_path)


def test_where_files_are(tmp_path):
    assert RunDir.open(tmp_path).shard(3) == tmp_path / "shards" / "shard-000003.h5"
    there = UrlRunDir(tmp_path, "s3://bucket/run")
    assert there.shard(3) == "s3://bucket/run/shards/shard-000003.h5"
    assert there.place(there.root) == there.home == "s3://bucket/run"
