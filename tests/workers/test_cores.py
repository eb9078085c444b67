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


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "no number\n"}, 64),
        ({}, 64),
    ],
)
def test_a_container_has_the_cores_it_is_given_time_on(tmp_path, monkeypatch, files, usable):
    """Where it has less than the machine's, none is claimed: other containers see no lock."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    bound = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: bound.append(set(cores)))
    assert usable_cores(tmp_path) == usable
    claimed = claim_cores(1, tmp_path / "locks", tmp_path)
    assert claimed == ((0,) if usable == 64 else ())
    assert all(cores == {0} for cores in bound) and bool(bound) == bool(claimed)
