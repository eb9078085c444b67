"""A folder of hostile images and odd files through the whole command: each is accounted for."""

import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.jobs.command import contents, start
from tests.models.small_checkpoint import write_checkpoint
from tests.readers.hostile_images import CASES, JPEG, OK

UNREADABLE = "unreadable"
SECONDS = 300
LARGEST_MB = 2000  # of the whole process, 450 of which are its libraries
HARMLESS = (
    "a b  .jpg",
    "UPPER.JPG",
    'comma,quote".jpg',
    "two\nlines.jpg",
    "red\x1b[31mbold\x07.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "[red]markup.jpg",
    "=1+1.jpg",
    "-rf.jpg",
    "%2e%2e%2fescaped.jpg",
    "back\\..\\slash.jpg",
    "\N{SNOWMAN}\u202egpj.jpg",
    "e\u0301.jpg",
    "n" * 251 + ".jpg",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The folder, and what is expected of each key."""
    base = tmp_path_factory.mktemp("hostile")
    folder, outside = base / "images", base / "outside"
    folder.mkdir()
    outside.mkdir()
    expected = {}
    for name, (data, outcome) in CASES.items():
        (folder / name).write_bytes(data)
        expected[name] = outcome
    for name in HARMLESS:
        (folder / name).write_bytes(JPEG)
        expected[name] = OK
    with open(os.fsencode(folder) + b"/not-\xff-utf8.jpg", "wb") as stream:
        stream.write(JPEG)
    expected["not-\\xff-utf8.jpg"] = OK
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(JPEG)
    expected["folder.jpg/inside.jpg"] = OK
    (outside / "picture.jpg").write_bytes(JPEG)
    links = {
        "linked.jpg": (outside / "picture.jpg", OK),
        "loop.jpg": (folder / "loop.jpg", UNREADABLE),
        "dangling.jpg": (outside / "gone.jpg", UNREADABLE),
        "device-zero.png": ("/dev/zero", UNREADABLE),
        "device-null.png": ("/dev/null", UNREADABLE),
    }
    for name, (target, outcome) in links.items():
        (folder / name).symlink_to(target)
        expected[name] = outcome
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        server.bind("socket.jpg")
        os.chdir(before)
    with (folder / "huge.jpg").open("wb") as stream:
        stream.truncate(1 << 40)
    (folder / "locked.jpg").write_bytes(JPEG)
    (folder / "locked.jpg").chmod(0)
    expected |= dict.fromkeys(("pipe.jpg", "socket.jpg", "huge.jpg"), UNREADABLE)
    expected["locked.jpg"] = OK if os.geteuid() == 0 else UNREADABLE
    return base, expected, write_checkpoint(base, 32)


def everything(base):
    """Every file below, with its size and time."""
    found = {}
    for folder, _, names in os.walk(base):
        for name in names:
            facts = os.lstat(os.path.join(folder, name))
            found[folder, name] = facts.st_size, facts.st_mtime_ns
    return found


def test_there_are_enough():
    assert len(CASES) >= 200
    assert len({data for data, _ in CASES.values()}) == len(CASES), "two cases are the same file"


def watched(process):
    """Its output, and the most MB it had; `os.wait4` counts those of who started it, too."""
    with ThreadPoolExecutor(1) as pool:
        output = pool.submit(process.communicate, timeout=SECONDS)
        largest = 0
        while not output.done():
            with suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                largest = max(largest, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status)), 0)
            time.sleep(0.05)
    return *output.result(), largest / 1024


@pytest.mark.process
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_each_file_is_accounted_for(hostile, tmp_path, executor):
    base, expected, model = hostile
    before = everything(base)
    (tmp_path / "here").mkdir()
    process = start(
        "extract", base / "images", "--model", model, "--image-size", 32, "--out", tmp_path / "run",
        "--executor", executor, "--save", "maps,overlays", "--shard-size", 64,
        *(("--workers", 2) if executor == "ray" else ()), cwd=tmp_path / "here",
    )  # fmt: skip
    try:
        out, err, largest = watched(process)
    finally:
        process.kill()  # where it takes too long
    assert process.returncode == 0, err
    assert largest < LARGEST_MB
    rows = contents(tmp_path / "run")
    found = {key.decode(): OK for key in rows["key"]}
    found |= {
        key.decode(): error.decode()
        for key, error in zip(rows["failure/key"], rows["failure/error"])
    }
    assert {key: (found.get(key), outcome) for key, outcome in expected.items()
            if found.get(key) != outcome} == {}  # fmt: skip
    assert found.keys() == expected.keys()
    ok = sum(outcome == OK for outcome in expected.values())
    assert f"{len(expected)} listed = {ok} ok + {len(expected) - ok} failed" in out
    assert all(rows["failure/message"])
    assert "\x1b" not in out
    assert not list((tmp_path / "here").iterdir())
    assert everything(base) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "here"}
    held = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"shards", "overlays", "index.h5", "failures.csv"} <= held
    assert len(list((tmp_path / "run" / "overlays").iterdir())) == ok
