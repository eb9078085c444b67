"""One good run for the tests that only read."""

import pytest

from shardcam import open_run
from tests.analysis.runs import make_run


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("analysis") / "run")


@pytest.fixture
def run(made):
    with open_run(made.paths.root) as opened:
        yield opened
