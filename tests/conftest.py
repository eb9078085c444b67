"""Set the threads before any test module imports MXNet; stores that tests share."""

import itertools

import fsspec
import pytest

from shardcam.engine.workers.threads import limit_threads

limit_threads(2)
_BUCKETS = itertools.count()


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
