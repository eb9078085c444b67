"""``shardcam index``: what it writes, and what it says of it."""

import resource

import pytest
from click.testing import CliRunner

from jobs.index import index
from tests.analysis.runs import make_run


@pytest.fixture
def made(tmp_path):
    return make_run(tmp_path / "run")


def run_index(*arguments):
    return CliRunner().invoke(index, [*map(str, arguments)])


@pytest.mark.parametrize(("limit", "told"), [(67, True), (68, False)])
def test_more_shards_than_may_be_open_are_told_of(made, monkeypatch, limit, told):
    """h5py needs 4 files for them, and every process some of its own."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 4096))
    done = run_index(made.paths.root)
    assert "over 4 of 4 shards" in done.output
    assert ("plain h5py needs ulimit -n 128 to read the index" in done.output) == told
