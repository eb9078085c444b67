"""What every executor must do; `make(build)` gives one."""

import pytest

from shardcam.engine.errors import DiskFull, InternalError, ModelError, WorkerError
from tests.workers.scripted import builder, nobody, shards


def check_every_shard_is_reported_once(make, folder):
    reports = list(make(builder({}, folder)).run(shards(7), nobody))
    assert sorted(report.shard for report in reports) == list(range(7))


def check_shards_are_taken_as_workers_get_free(make, folder, workers=2):
    taken = 0

    def counted():
        nonlocal taken
        for shard in shards(12):
            taken += 1
            yield shard

    for done, _ in enumerate(make(builder({}, folder)).run(counted(), nobody), 1):
        assert taken <= done + 2 * workers  # one that it runs, one that it reads
    assert taken == 12


def check_errors_of_ours_arrive_as_they_are(make, folder):
    with pytest.raises(ModelError, match=r"weights\.params: cut short"):
        list(make(builder({"start": "model error"}, folder)).run(shards(1), nobody))
    with pytest.raises(DiskFull, match="/data: no space left"):
        list(make(builder({1: "full"}, folder)).run(shards(3), nobody))


def check_a_bug_stops_the_run_with_the_workers_traceback(make, folder):
    told = []
    run = make(builder({1: "bug"}, folder)).run(shards(2), lambda event: told.append(event.kind))
    with pytest.raises(
        InternalError, match=r"ZeroDivisionError: a bug \(at sample 'sample 1'"
    ) as it:
        list(run)
    assert it.value.trace.startswith("Traceback (most recent call last)")
    assert it.value.trace.endswith("ZeroDivisionError: a bug")
    assert "scripted.py" in it.value.trace
    assert str(it.value).count("Traceback") == 1
    assert not {"search", "given_up", "worker_lost"} & {*told}
    assert len([*folder.glob("1-*")]) == 1, "it was tried again"


def check_a_bug_while_workers_start_is_shown_too(make, folder):
    with pytest.raises(InternalError, match=r"a bug \(while a worker started\)") as it:
        list(make(builder({"start": "bug"}, folder)).run(shards(1), nobody))
    assert "scripted.py" in it.value.trace


def check_lack_of_memory_is_one_line(make, folder):
    told = r"^out of memory at sample 'sample 0': MemoryError: 7 GiB; run it again with a smaller"
    with pytest.raises(WorkerError, match=told):
        list(make(builder({0: "memory"}, folder)).run(shards(1), nobody))
