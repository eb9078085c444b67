"""One process and several Rays, one after the other, as in a notebook."""

import os
import shutil
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from shardcam.engine.errors import WorkerError
from shardcam.engine.workers import own_ray, ray_cluster
from shardcam.engine.workers import ray_folder as folders
from shardcam.engine.workers.ray_address import LOCAL
from shardcam.engine.workers.ray_cluster import RayOptions, session
from shardcam.engine.workers.ray_executor import RayExecutor
from shardcam.engine.workers.ray_folder import ray_folder
from shardcam.engine.workers.ray_internals import reread_environment
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
    handled = signal.signal(signal.SIGTERM, stopped := lambda *_: None)
    with session(OWN):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert signal.getsignal(signal.SIGTERM) is stopped  # Ray's own would end ray.init half-way
    signal.signal(signal.SIGTERM, handled)
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


@ray.remote(num_cpus=0)
class Theirs:
    def answer(self):
        return ray.get_runtime_context().namespace


def living_actors():
    every = ray._private.state.actors().values()
    return [actor["ActorClassName"] for actor in every if actor["State"] != "DEAD"]


def test_the_ray_of_the_program_is_used_and_left_as_it_is(address, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where this process is not
    reread_environment()
    ray.init(address=address, namespace="theirs", log_to_driver=False)
    monkeypatch.delenv("RAY_ADDRESS")
    try:
        actor = Theirs.options(name="kept").remote()
        assert ray.get(actor.answer.remote()) == "theirs"
        for given in (None, "auto", address):
            executor = RayExecutor(builder({}, tmp_path), RayOptions(2, 1, 0, given))
            run = executor.run(shards(5), nobody)
            next(run)
            assert living_actors().count("_Worker") == 2
            run.close() if given is None else list(run)
            deadline = time.monotonic() + 30
            while living_actors() != ["Theirs"] and time.monotonic() < deadline:
                time.sleep(0.1)
            assert living_actors() == ["Theirs"]
        for other in (LOCAL, "10.0.0.1:6379"):
            executor = RayExecutor(builder({}, tmp_path), RayOptions(1, 1, 0, other))
            told = rf"--address {other}: this process is on the Ray at \S+ already: leave"
            with pytest.raises(WorkerError, match=told):
                list(executor.run(shards(1), nobody))
        assert ray.get(ray.get_actor("kept").answer.remote()) == "theirs"
    finally:
        ray.shutdown()


def test_a_client_of_ray_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster, "is_client", lambda: True)
    with pytest.raises(WorkerError, match=r"ray://.*: call ray\.shutdown\(\) first"):
        list(RayExecutor(builder({}, ""), OWN).run(shards(1), nobody))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where a Ray of our own may put its folder, in order: TMPDIR, and one more."""
    first, second = tmp_path / "first", tmp_path / "2"
    for place in (first, second):
        place.mkdir()
    monkeypatch.setattr(folders, "_LONGEST", 4096)  # a test's own folder is a long path
    monkeypatch.setattr(folders, "_bases", lambda: [str(first), str(second)])
    return first, second


def test_the_folder_of_a_ray_of_our_own_is_private_and_removed(places):
    with ray_folder() as folder:
        assert folder.parent.parent == places[0]
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        (folder / "session_2026").mkdir()
    assert not list(places[0].iterdir())


def test_a_place_that_ray_cannot_use_is_passed_over(places, monkeypatch):
    first, second = places
    usage = shutil.disk_usage

    def passed_over():
        with ray_folder() as folder:
            return folder.parent.parent == second and not list(first.iterdir())

    longest = len(str(second / "ray-12345678" / "r")) + folders._SOCKET
    with monkeypatch.context() as short:
        short.setattr(folders, "_LONGEST", longest)
        assert passed_over()
    with monkeypatch.context() as full:
        free = {first: 0, second: 1 << 30}
        full.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path.parent]))
        assert passed_over()
    assert shutil.disk_usage is usage
    first.rmdir()
    with ray_folder() as folder:
        assert folder.parent.parent == second
    second.rmdir()
    told = r"2: No such file or directory\): set TMPDIR to a short path .* --executor local"
    with pytest.raises(WorkerError, match=told), ray_folder():
        pass


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "Exception: The current node timed out during startup; raise"),
        (
            "[2026-11-27 06:22:13,161 I 78 78] (raylet) main.cc:1: Starting\n"
            "[2026-11-27 06:22:13,161 C 78 78] (raylet) dlmalloc.cc:161: no shared memory\n",
            "machine: no shared memory; raise",
        ),
        (
            "[2026-11-27 06:23:52,993 E 1 1] (gcs_server) logging.cc:118: Unhandled exception: "
            "N5boost10E. what(): epoll: Too many open files [system:24] /ray/gcs_server(+0x14)",
            "machine: epoll: Too many open files; raise",
        ),
    ],
)
def test_a_ray_that_does_not_start_is_one_line_that_says_why(places, monkeypatch, log, reason):
    class Failing:
        """In place of the process that starts Ray."""

        def __init__(self, _serve):
            self.pipe = self

        def send(self, sent):
            if isinstance(sent, dict):
                return
            logs = Path(sent[-1]["temp_dir"]) / "session_2026-11-27" / "logs"
            logs.mkdir(parents=True)
            (logs / "raylet.out").write_text(log)

        def recv(self):
            return None, "Exception: The current node timed out during startup. This could happen"

        def end(self, _patience):
            pass

    monkeypatch.setattr(own_ray, "ChildProcess", Failing)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(WorkerError) as error, session(OWN):
        pass
    assert reason in str(error.value)
    assert str(error.value).endswith("use --executor local, which needs no Ray")
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert not list(places[0].iterdir())
