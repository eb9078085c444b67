"""Before any test module imports MXNet: threads, imports; marks that hold; stores tests share."""

import itertools
import os
import sys

import fsspec
import hypothesis
import pytest

import shardcam.engine.models  # noqa: F401  (MXNet is then imported as it has to be)
from shardcam.engine.workers.threads import limit_threads

limit_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
# The same inputs each time; `make test-all` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")
_BUCKETS, _FOLDERS = itertools.count(), itertools.count()
_MAY_START = {"process", "ray", "slow", "browser"}  # marks of tests that start processes
_running = None  # the test that runs now


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "shared_head" in item.fixturenames:
            item.add_marker("ray")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _running
    _running = item
    try:
        return (yield)
    finally:
        _running = None


def _require_mark(event, arguments):
    """Fail a test that starts a process unless its marks say so: `make quick` leaves it out."""
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"):
        item = _running
        if item is not None and not _MAY_START & {mark.name for mark in item.iter_markers()}:
            pytest.fail(f"{item.nodeid} starts a process ({arguments}): mark it process or ray")


sys.addaudithook(_require_mark)


@pytest.fixture(autouse=True)
def own_calibrations(monkeypatch, tmp_path_factory):
    """Calibrations of a test are kept for itself, not in the folder of the user."""
    if (cache := sys.modules.get("shardcam.engine.run.calibration_cache")) is not None:
        folder = tmp_path_factory.getbasetemp() / f"int8-{next(_FOLDERS)}"
        monkeypatch.setattr(cache, "user_folder", lambda: folder)


@pytest.fixture(scope="session")
def s3_server():
    from tests.servers import ENVIRONMENT, S3

    with pytest.MonkeyPatch.context() as patch:
        server = S3()
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
            patch.setenv(name, value)
        yield server
        server.stop()


@pytest.fixture
def s3(s3_server):
    """The server, with a new bucket: ``s3.bucket`` is its URL."""
    s3_server.bucket = f"s3://bucket{next(_BUCKETS)}"
    s3_server.failing, s3_server.on_put = 0, lambda path: None
    s3_server.lost, s3_server.delay, s3_server.most = None, 0.0, 0
    system = fsspec.filesystem("s3")
    system.mkdir(s3_server.bucket)
    s3_server.asked.clear()
    return s3_server


@pytest.fixture
def memory():
    """fsspec's file system in this process's memory, empty."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]
