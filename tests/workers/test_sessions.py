"""One process and several Rays, one after the other, as in a notebook."""

import os

import pytest
import ray

from shardcam.engine.errors import WorkerError
from shardcam.engine.workers.ray_cluster import LOCAL, RayOptions, session
from shardcam.engine.workers.ray_executor import RayExecutor
from tests.ray_head import ray_head
from tests.workers.scripted import builder, nobody, shards

OWN = RayOptions(1, 1, 0, LOCAL)
NO_TOKENS = {"RAY_AUTH_MODE": "disabled"}
ANOTHER_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a token of that cluster alone"}


@pytest.mark.ray
@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(NO_TOKENS, id="no tokens"),
        pytest.param(ANOTHER_TOKEN, id="another token", marks=pytest.mark.slow),
    ],
)
def test_a_cluster_after_a_ray_of_our_own(auth, tmp_path, monkeypatch):
    """Ray turns tokens on where it is started, and keeps the token that it has read."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with session(OWN):
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in os.environ
    with ray_head(cpus=1, **auth) as head:
        for name, value in {"RAY_ADDRESS": head.address, **auth}.items():
            monkeypatch.setenv(name, value)
        executor = RayExecutor(builder({}, tmp_path), RayOptions(1, 1, 0, None))
        reports = list(executor.run(shards(2), nobody))
        assert sorted(report.shard for report in reports) == [0, 1]
        assert os.environ["RAY_ADDRESS"] == head.address
        if auth is NO_TOKENS:
            monkeypatch.setenv("RAY_AUTH_MODE", "token")
            with pytest.raises(WorkerError, match=r"uses no tokens: set RAY_AUTH_MODE=disabled"):
                list(executor.run(shards(2), nobody))


def test_a_ray_that_is_not_ours_is_let_alone(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it was ended"))
    with pytest.raises(WorkerError, match=r"uses Ray already: call ray\.shutdown\(\) first"):
        list(RayExecutor(builder({}, ""), OWN).run(shards(1), nobody))
