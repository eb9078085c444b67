"""One Ray cluster for all tests that leave its nodes as they are."""

import pytest

from tests.ray_head import ray_head

NO_TOKENS = {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="session")
def shared_head():
    """Four CPUs, and two GPUs that are not there."""
    with ray_head(cpus=4, gpus=2, **NO_TOKENS) as head:
        yield head


@pytest.fixture
def address(shared_head, monkeypatch):
    """Of a cluster that the tests join one after the other."""
    for name, value in NO_TOKENS.items():
        monkeypatch.setenv(name, value)
    return shared_head.address
