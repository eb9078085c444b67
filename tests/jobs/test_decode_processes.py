"""Runs whose pictures are decoded by other processes: the same rows, and nothing stays behind."""

import signal
import time
from pathlib import Path

import pytest

from shardcam.engine.errors import Interrupted
from tests.jobs.command import SMALL, assert_same, contents, shardcam, start
from tests.jobs.images import make_folder

pytestmark = pytest.mark.process
LOCAL = (*SMALL, "--executor", "local", "--shard-size", 16)


def children(number):
    """Of a process, by number."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == number and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def overlays(run):
    return {path.name: path.read_bytes() for path in (Path(run) / "overlays").iterdir()}


def test_the_same_rows_and_overlays(tmp_path):
    make_folder(tmp_path / "images", 60, bad=5)
    options = ("--fast-decode", "--max-pixels", 1_000_000, "--save", "maps,logits,overlays")
    for count in (0, 2):
        out = tmp_path / f"run-{count}"
        code, _, err = shardcam(
            "extract", tmp_path / "images", *LOCAL, *options,
            "--decode-processes", count, "--out", out)  # fmt: skip
        assert code == 0, err
    assert_same(contents(tmp_path / "run-0"), contents(tmp_path / "run-2"))
    assert overlays(tmp_path / "run-0") == overlays(tmp_path / "run-2") != {}
    code, out, _ = shardcam("extract", tmp_path / "images", *LOCAL, *options,
                            "--out", tmp_path / "run-2")  # fmt: skip
    assert code == 0  # it is the same run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped(tmp_path, number):
    make_folder(tmp_path / "images", 20)
    for copy in range(1, 40):
        (tmp_path / "images" / f"again {copy}").symlink_to(tmp_path / "images" / "group0")
    order = ("extract", tmp_path / "images", "--follow-links", *LOCAL, "--method", "scorecam")
    order = (*order, "--decode-processes", 2, "--out", tmp_path / "run")
    command = start(*order)
    end = time.monotonic() + 60
    while not list((tmp_path / "run" / "shards").glob("*.h5")):
        assert command.poll() is None and time.monotonic() < end, command.communicate()
        time.sleep(0.05)
    decoders = children(command.pid)
    assert len(decoders) == 2
    command.send_signal(number)
    command.communicate(timeout=60)
    assert command.returncode in (Interrupted.exit_code, -signal.SIGKILL)
    while any(Path(f"/proc/{decoder}").exists() for decoder in decoders):
        assert time.monotonic() < end + 20
        time.sleep(0.05)
