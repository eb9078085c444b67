"""At a URL, too, the second driver is refused, and a dead one is in nobody's way."""

import errno
import json
import os
import re
import subprocess
import threading
import time

import fsspec
import pytest

from shardcam.engine.errors import RunDirectoryError, StoreError
from shardcam.engine.io import files
from shardcam.engine.rundir import url_lock
from shardcam.engine.rundir.run_dir import UrlRunDir
from shardcam.engine.rundir.staging import alive
from tests.jobs.command import start

HOLD = (
    "import signal, sys; from pathlib import Path\n"
    "from shardcam.engine.rundir.run_dir import UrlRunDir\n"
    "with UrlRunDir(Path(sys.argv[1]), sys.argv[2]).lock():\n"
    "    print('held', flush=True); signal.pause()"
)
ELSEWHERE = {"id": "0123", "host": "other", "machine": "m", "pid": 7, "since": "2026-01-02 03:04"}


@pytest.fixture(params=["memory", "s3"])
def paths(request, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "SETTLE", 0.2)
    given = request.getfixturevalue(request.param)
    base = "memory://bucket" if request.param == "memory" else given.bucket
    return UrlRunDir(tmp_path, f"{base}/run")


def read(paths):
    return json.loads(files.read(paths.place(paths.lock_file)))


def write(paths, heard, **more):
    fsspec.filesystem(paths.url.partition("://")[0]).pipe_file(
        paths.place(paths.lock_file), json.dumps(ELSEWHERE | {"heard": heard} | more).encode()
    )


def test_the_second_driver_is_refused(paths):
    with paths.lock():
        told = rf"^{re.escape(paths.url)}: process \d+ on .* is working on it; wait for it"
        with pytest.raises(RunDirectoryError, match=told), paths.lock():
            pass
        with pytest.raises(RunDirectoryError, match=told):
            paths.require_no_driver()
        assert paths.lock_holder().startswith("process ")
    assert paths.lock_holder() is None
    assert not paths.exists(paths.lock_file)
    with paths.lock():
        pass


def test_a_driver_elsewhere_counts_as_gone_when_it_is_silent(paths):
    write(paths, time.time() - url_lock.SILENCE / 2)
    with pytest.raises(RunDirectoryError, match=r"process 7 on other \(since .*seen 45 s ago"):
        paths.require_no_driver()
    write(paths, time.time() - 2 * url_lock.SILENCE)
    paths.require_no_driver()
    with paths.lock():
        assert read(paths)["id"] != "0123"


@pytest.mark.process
def test_a_killed_driver_of_this_machine_is_gone_at_once(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "SETTLE", 0.2)
    paths = UrlRunDir(tmp_path, f"{s3.bucket}/run")
    (tmp_path / "other").mkdir()
    process = start(tmp_path / "other", paths.url, program=("-c", HOLD))
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunDirectoryError, match=f"process {process.pid} on "), paths.lock():
        pass
    process.kill()
    process.communicate()
    assert paths.exists(paths.lock_file)
    assert paths.lock_holder() is None
    for died in (True, False):
        with paths.lock() as abandoned:
            assert abandoned == died


def test_of_two_that_take_over_at_once_one_gets_it(memory, tmp_path, monkeypatch):
    """Both have seen a driver that is gone before either writes."""
    monkeypatch.setattr(url_lock, "SETTLE", 0.5)
    both, got = threading.Barrier(2), []
    lives = url_lock.Holder.lives
    monkeypatch.setattr(
        url_lock.Holder, "lives", lambda held: (both.wait(10) < 0) if held.pid == 7 else lives(held)
    )
    write(UrlRunDir(tmp_path, "memory://bucket/run"), 0.0)
    locks = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        locks.append(url_lock.UrlLock("memory://bucket/run/.lock", tmp_path / str(i) / ".lock"))
    threads = [threading.Thread(target=lambda lock=lock: got.append(lock.take())) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lock in locks:
        lock.release()
    assert [holder is None for holder in got].count(True) == 1, got


def test_it_says_that_it_lives_until_another_has_taken_over(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "BEAT", 0.01)
    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    (tmp_path / "looking").mkdir()
    looking = UrlRunDir(tmp_path / "looking", paths.url)
    lock = url_lock.UrlLock(paths.place(paths.lock_file), paths.lock_file)
    assert lock.take() is None
    first, deadline = read(looking)["heard"], time.monotonic() + 10
    while read(looking)["heard"] == first:
        assert time.monotonic() < deadline
    while lock._beating.is_alive():  # it may have looked just before, and write over it
        assert time.monotonic() < deadline
        write(looking, time.time())
        lock._beating.join(0.02)
    lock.release()
    assert read(looking)["id"] == "0123"


def test_it_lives_though_its_disk_is_full_for_a_while(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "BEAT", 0.01)
    failing = threading.Event()

    def look(url, copy):
        if not failing.is_set():
            failing.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return read_holder(url, copy)

    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    lock = url_lock.UrlLock(paths.place(paths.lock_file), paths.lock_file)
    assert lock.take() is None
    read_holder = url_lock.read_holder
    monkeypatch.setattr(url_lock, "read_holder", look)
    assert failing.wait(10)
    first, deadline = read(paths)["heard"], time.monotonic() + 10
    while read(paths)["heard"] == first:
        assert time.monotonic() < deadline
    lock.release()


def test_a_process_number_alone_is_no_sign_of_life(memory, tmp_path):
    """Another process has it now, or this one has, in a container that was started again."""
    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    here = {"machine": url_lock._machine()}
    for pid, heard, lives in (
        (os.getppid(), time.time(), True),
        (os.getppid(), time.time() - 2 * url_lock.SILENCE, False),
        (os.getpid(), time.time(), False),
    ):
        write(paths, heard, pid=pid, **here)
        assert (paths.lock_holder() is not None) == lives


def test_a_lock_that_is_there_and_is_not_is_an_error(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "_TRIES", (0.0, 0.0))
    monkeypatch.setattr(url_lock, "upload", lambda *_: False)
    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    with pytest.raises(StoreError, match=r"^memory://bucket/run/.lock: seems to exist"):
        url_lock.UrlLock(paths.place(paths.lock_file), paths.lock_file).take()


@pytest.mark.parametrize(
    "wrong", [{"heard": "x"}, {"pid": "7"}, {"pid": 1 << 80}, {"heard": None}, {"since": 7}]
)
def test_a_lock_of_other_types_is_nobodys(memory, tmp_path, wrong):
    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    write(paths, **{"heard": time.time(), "machine": url_lock._machine(), **wrong})
    assert paths.lock_holder() is None


def test_a_lock_that_nobody_can_read_is_nobodys(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(url_lock, "SETTLE", 0.0)
    paths = UrlRunDir(tmp_path, "memory://bucket/run")
    memory.pipe_file("/bucket/run/.lock", b"[]")
    assert paths.lock_holder() is None
    with paths.lock():
        assert paths.lock_holder() is not None


@pytest.mark.process
def test_a_process_that_nobody_has_asked_about_is_gone():
    """Of a killed worker its number stays until its parent, or the first process, asks."""
    process = subprocess.Popen(["true"])
    while alive(process.pid):
        time.sleep(0.01)
    os.kill(process.pid, 0)  # its number is still there
    process.wait()
    assert not alive(process.pid)
    assert alive(os.getpid())
