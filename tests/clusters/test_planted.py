"""A mark that is planted in digits is found; benchmarks.planted does it with ten seeds."""

import json

import numpy as np
import pytest

import shardcam as product
from benchmarks.planted import commands, write_digits
from tests.jobs.command import shardcam

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mark", [3, None])
def test_the_marked_digits_are_the_cluster_that_stands_out(mark, tmp_path):
    source = write_digits(tmp_path, mark, seed=3)
    for command in commands(tmp_path, source, seed=3):
        code, out, err = shardcam(*command)
        assert code == 0, err
    found = json.loads(out)["classes"]
    raised = [
        (int(number), one["cluster"], one["unlikeness"])
        for number, c in found.items()
        for one in c["clusters"]
        if one["unlikeness"] >= 0.3
    ]
    if mark is None:
        assert raised == []
        return
    number, cluster, _ = max(raised, key=lambda one: one[2])
    assert number == mark
    with product.open_run(tmp_path / "run") as run:
        found = run.select(predicted=mark, cluster=cluster)["sample"][:]
    assert np.isin(found, np.load(tmp_path / "marked.npy")).mean() > 0.95
