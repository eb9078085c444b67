import os
import subprocess
import sys

import pytest

CLAIM = (
    "import sys, os; from pathlib import Path; from engine.workers.cores import claim_cores;"
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


def test_too_few_free_cores_leave_all_of_them_free(tmp_path, cores):
    first, claimed, bound = claim(tmp_path, len(cores) + 1)
    assert claimed == []
    assert bound == cores
    second, claimed, _ = claim(tmp_path, len(cores))
    assert claimed == cores
    for process in (first, second):
        process.kill()
        process.communicate()
