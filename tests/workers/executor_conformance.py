"""What every executor must do; `make(build)` gives one."""

import pytest

from engine.errors import DiskFull, ModelError
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


def check_a_bug_is_not_swallowed(make, folder):
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(make(builder({0: "bug"}, folder)).run(shards(2), nobody))
