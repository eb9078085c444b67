"""What runs the shards is started while the run is prepared, where it will be needed."""

import pytest

from shardcam import extract
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run import extraction, start_ahead
from shardcam.engine.workers import own_ray, ray_address
from tests.jobs.command import CHECKPOINT, ROOT

DONE = ROOT / "tests" / "fixtures" / "run-0.1.0" / "run"


class Started:
    def __init__(self, *given):
        self.given, self.ended = given, False

    def end(self):
        self.ended = True


class StartedRay(Started):
    pass


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    monkeypatch.setattr(start_ahead, "Child", Started)
    monkeypatch.setattr(start_ahead, "OwnRay", StartedRay)
    monkeypatch.setattr(ray_address, "on_ray", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def started(out, **options):
    given = {"source": "photos", "model": "efficientnet_lite0", "out": str(out)}
    return start_ahead.start_ahead(RunConfig(**given, **options))


def test_what_will_be_needed_is_started(tmp_path):
    assert started(tmp_path).given == (start_ahead.load_libraries,)
    ahead = started(tmp_path, executor="ray", workers=3, cpus_per_worker=2)
    assert isinstance(ahead, StartedRay)
    assert ahead.given == (3, 2, start_ahead.be_ready)


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "local"},
        {"executor": "ray", "address": "10.0.0.1:6379"},
        {"executor": "ray", "gpus_per_worker": 1},
    ],
)
def test_what_will_not_is_not(tmp_path, options):
    assert started(tmp_path, **options) is None


def test_a_run_is_asked_whether_it_is_done_only_where_something_would_start(tmp_path, monkeypatch):
    monkeypatch.setattr(start_ahead, "all_done", lambda _: pytest.fail("asked"))
    assert started(tmp_path, executor="local") is None
    assert started(tmp_path, executor="ray", address="10.0.0.1:6379") is None


def test_a_cluster_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert started(tmp_path, executor="ray") is None
    assert started(tmp_path, executor="ray", address="local") is not None
    monkeypatch.setattr(ray_address, "on_ray", lambda: True)
    assert started(tmp_path, executor="ray", address="local") is None


def test_a_run_that_is_done_needs_nothing():
    assert started(DONE) is None
    assert started(DONE, executor="ray") is None


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_the_run_is_prepared_on_all_cores(tmp_path, monkeypatch, executor):
    threads = []

    def refused(*_):
        raise ConfigError("refused")

    monkeypatch.setattr(extraction, "usable_cores", lambda: 7)
    monkeypatch.setattr(extraction, "limit_threads", threads.append)
    monkeypatch.setattr(extraction, "prepare", refused)
    with pytest.raises(ConfigError, match="refused"):
        extract("photos", model="vgg16", out=tmp_path / "run", executor=executor)
    assert threads == [7]


@pytest.mark.ray
def test_a_run_that_is_refused_leaves_no_ray(tmp_path, monkeypatch):
    begun = []

    class Begun(own_ray.OwnRay):
        def __init__(self, *given):
            super().__init__(*given)
            begun.append(self)

    monkeypatch.setattr(start_ahead, "OwnRay", Begun)
    with pytest.raises(Exception, match=r"nowhere"):
        extract(tmp_path / "nowhere", model=CHECKPOINT, out=tmp_path / "run", executor="ray")
    (ray,) = begun
    assert ray._child.pipe.closed
    assert not ray._folder.exists()
