import os
import subprocess
import sys

import pytest

from shardcam.engine.workers.cores import claim_cores, usable_cores

CLAIM = (
    "import sys, os; from pathlib import Path;"
    "from shardcam.engine.workers.cores import claim_cores;"
    "cores = claim_cores(int(sys.argv[2]), Path(sys.argv[1]));"
    "print(*cores, '|', *sorted(os.sched_getaffinity(0)), flush=True); sys.stdin.read()"
)


def claim(folder, count):
    command = [sys.executable, "-c", CLAIM, folder, str(count)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    claimed, bound = process.stdout.readline().split("|")
    return process, [int(c) for c in claimed.split()], [int(c) for c in bound.split()]


@pytest.fixture
def cores():
    return sorted(os.sched_getaffinity(0))


@pytest.mark.process
def test_workers_get_cores_of_their_own_until_none_is_free(tmp_path, cores):
    processes, given = [], []
    for _ in cores:
        process, claimed, bound = claim(tmp_path, 1)
        processes.append(process)
        assert claimed == bound
        given += claimed
    assert sorted(given) == cores
    late, claimed, bound = claim(tmp_path, 1)
    assert claimed == []
    assert bound == cores
    processes[0].kill()
    processes[0].wait()
    heir, claimed, _ = claim(tmp_path, 1)
    assert claimed == given[:1]
    for process in (*processes, late, heir):
        process.kill()
        process.communicate()


@pytest.mark.process
def test_too_few_free_cores_leave_all_of_them_free(tmp_path, cores):
    first, claimed, bound = claim(tmp_path, len(cores) + 1)
    assert claimed == []
    assert bound == cores
    second, claimed, _ = claim(tmp_path, len(cores))
    assert claimed == cores
    for process in (first, second):
        process.kill()
        process.communicate()


NESTED = "4:cpu,cpuacct:/jobs/mine\n1:name=systemd:/other\n"


def v1(**quotas):
    """Files of version 1, quotas by path with _ for /; a period of 100 ms."""
    files = {}
    for path, quota in quotas.items():
        folder = "cpu/" + path.replace("_", "/")
        files |= {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    return files


@pytest.mark.parametrize(
    ("membership", "files", "usable"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, 64),
        ("0::/", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),
        (None, {"cpu.max": "250000 100000\n"}, 2),
        ("1:cpu:/", v1(_="-1\n"), 64),
        ("1:cpu:/", v1(_="400000\n"), 4),
        ("0::/", {"cpu.max": "no number\n"}, 64),
        ("0::/", {}, 64),
        # the smallest of the group's and of those above it
        ("0::/user/job", {"user/job/cpu.max": "max 1", "user/cpu.max": "300000 100000"}, 3),
        ("0::/user/job", {"user/job/cpu.max": "2 1", "user/cpu.max": "300000 100000"}, 2),
        ("0::/user/job", {"user/job/cpu.max": "max 1", "other/cpu.max": "1 1"}, 64),
        (NESTED, v1(jobs_mine="-1", jobs="300000", _="-1"), 3),
        (NESTED, v1(jobs_mine="200000", jobs="300000"), 2),
        # a container that sees its path on the host, and its own group or one above it mounted
        ("0::/docker/4f", {"cpu.max": "300000 100000"}, 3),
        ("0::/docker/4f/job", {"cpu.max": "3 1", "job/cpu.max": "2 1"}, 2),
        ("4:cpu,cpuacct:/docker/4f/job", v1(_="300000", job="-1"), 3),
        ("0::/../../job", {"cpu.max": "3 1"}, 3),
    ],
)
def test_a_container_has_the_cores_it_is_given_time_on(
    tmp_path, monkeypatch, membership, files, usable
):
    """Where it has less than the machine's, none is claimed: other containers see no lock."""
    mount, own = tmp_path / "mount", tmp_path / "membership"
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text)
    if membership is not None:
        own.write_text(membership)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    bound = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: bound.append(set(cores)))
    assert usable_cores(mount, own) == usable
    claimed = claim_cores(1, tmp_path / "locks", mount, own)
    assert claimed == ((0,) if usable == 64 else ())
    assert all(cores == {0} for cores in bound) and bool(bound) == bool(claimed)
