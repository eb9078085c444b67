"""Seeds and dictionaries by several processes: the bytes of one; what ends one of them."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.analysis.runs import make_run
from tests.jobs.command import shardcam, start


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "run"
    make_run(root, resize="squash", shards=(40, 3, 0, 5), keys="2007_{:06d}.jpg")
    return root


def export(run, out, form="psa", *more):
    return "export", run, "--to", form, "--layer", "stage.conv", "--out", out, *more


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected")
    for form in ("seeds", "irn", "psa"):
        code, _, err = shardcam(*export(run, out / form, form, "--workers", 1))
        assert (code, err) == (0, "")
    return {form: files(out / form) for form in ("seeds", "irn", "psa")}


@pytest.mark.process
@pytest.mark.parametrize("form", ["seeds", "irn", "psa"])
def test_the_bytes_of_one_process(run, expected, tmp_path, form):
    code, out, err = shardcam(*export(run, tmp_path / "out", form, "--workers", 3))
    assert (code, err) == (0, "")
    assert out.startswith(f"48 files of stage.conv written to {tmp_path / 'out'}")
    assert files(tmp_path / "out") == expected[form]


@pytest.mark.process
def test_more_workers_than_parts_are_told_of(run, tmp_path):
    code, out, err = shardcam(*export(run, tmp_path / "out", "psa", "--workers", 64))
    assert (code, err) == (0, "") and out.startswith("--workers 64: there is work for 4\n")


def children(process):
    """The two that write files; imports start others."""
    path, found = Path(f"/proc/{process.pid}/task/{process.pid}/children"), []
    while len(found) < 2:
        assert process.poll() is None
        time.sleep(0.01)
        numbers = path.read_text().split()
        found = [int(n) for n in numbers if "be_child" in Path(f"/proc/{n}/cmdline").read_text()]
    return found


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(process, code):
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (code, 1), err
    return err


def assert_goes_on(run, out, expected):
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    code, _, err = shardcam(*export(run, out))
    assert (code, err) == (0, "")
    assert files(out) == expected["psa"]


@pytest.mark.process
def test_a_process_that_is_killed_ends_the_export_which_goes_on(run, expected, tmp_path):
    process = start(*export(run, tmp_path / "out", "psa", "--workers", 2))
    os.kill(children(process)[0], signal.SIGKILL)
    assert "a process that writes files died of SIGKILL; the same command" in ended(process, 1)
    assert_goes_on(run, tmp_path / "out", expected)


@pytest.mark.process
def test_a_stopped_export_ends_its_processes_and_goes_on(run, expected, tmp_path):
    process = start(*export(run, tmp_path / "out", "psa", "--workers", 2))
    numbers = children(process)
    process.send_signal(signal.SIGINT)
    assert "stopped by SIGINT; the same command goes on\n" in ended(process, 4)
    while any(is_running(number) for number in numbers):  # one that was just being started
        time.sleep(0.01)
    assert_goes_on(run, tmp_path / "out", expected)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
from shardcam.jobs.cli import main
main()
"""


@pytest.mark.process
def test_a_full_disk_is_one_line(run, expected, tmp_path):
    command = export(run, tmp_path / "out", "psa", "--workers", 2)
    err = ended(start(*command, program=("-c", LIMITED)), 5)
    assert ".npy: File too large; make room and run the same command again" in err
    assert_goes_on(run, tmp_path / "out", expected)


def test_what_is_left_of_a_killed_export_is_removed(run, expected, tmp_path):
    (tmp_path / "out").mkdir()
    assert shardcam(*export(run, tmp_path / "out"))[0] == 0
    (tmp_path / "out" / ".2007_000000.npy.0123abcd").write_bytes(b"half")
    (tmp_path / "out" / ".mine").write_bytes(b"")
    assert shardcam(*export(run, tmp_path / "out"))[0] == 0
    assert files(tmp_path / "out") == expected["psa"] | {".mine": b""}


def test_processes_are_for_files_of_each_image(run, tmp_path):
    code, _, err = shardcam(*export(run, tmp_path / "m.npy", "npy", "--workers", 2))
    assert (code, err.count("\n")) == (2, 1)
    assert "--workers: it is for heatmaps, crops, seeds, irn, psa, not for npy" in err


def test_a_long_export_says_how_far_it_is(run, tmp_path, monkeypatch):
    monkeypatch.setattr("shardcam.jobs.export_processes.LINE_EVERY", 0)
    code, out, _ = shardcam(*export(run, tmp_path / "out"))
    assert code == 0
    assert "32/48 images\n40/48 images\n43/48 images\n48/48 images\n" in out
