"""Runs as jobs of a real Ray head with a dashboard, which asks for a token."""

import json
import re
import time
from urllib.parse import urlsplit

import pytest

from tests.jobs.command import contents, shardcam_process, start
from tests.jobs.images import make_folder
from tests.jobs.proxy import proxy_to
from tests.ray_head import ray_head

pytestmark = pytest.mark.ray
TOKEN = "a-token-of-this-test-and-long-enough-for-ray"
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64")
SLOWLY = ("--method", "scorecam", "--shard-size", "1", "--workers", "1")
WAIT = 120  # seconds for what a busy machine may do late


@pytest.fixture(scope="module")
def head():
    """Three CPUs, a dashboard on loopback, and a token."""
    with ray_head(cpus=3, dashboard=True, **AUTH) as head, pytest.MonkeyPatch.context() as patch:
        for name, value in AUTH.items():
            patch.setenv(name, value)
        yield head


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """40 images, two of them broken."""
    folder = tmp_path_factory.mktemp("submitted") / "images"
    make_folder(folder, 40, bad=2)
    return folder


def submit(head, *arguments):
    return shardcam_process("submit", *arguments, "--address", head.dashboard)


def jobs(head, *arguments):
    return shardcam_process("jobs", *arguments, "--address", head.dashboard)


def id_of(out):
    """The submission id that was printed."""
    return out.split("submitted ", 1)[1].split()[0]


@pytest.mark.slow
def test_a_run_is_followed_over_a_broken_connection(head, images, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "another:6379")
    run = tmp_path / "run"
    with proxy_to(urlsplit(head.dashboard).port) as proxy:
        process = start(
            *("submit", images, *LITE0, "--out", run, "--shard-size", "8", "--workers", "2"),
            *("--address", f"http://127.0.0.1:{proxy.port}"),
        )
        seen = ""
        while "Running entrypoint" not in seen:
            seen += process.stdout.readline()
        proxy.cut()
        assert process.stderr.readline() == "shardcam: --address wins over RAY_ADDRESS\n"
        assert "connection lost" in process.stderr.readline()
        proxy.mend()
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert "answers again" in err
    assert "the same by Ray: env -u RAY_ADDRESS ray job submit --address=" in seen
    assert "40 listed = 38 ok + 2 failed" in out
    assert len(contents(run)["key"]) == 38

    code, log, err = jobs(head, "logs", run)
    assert code == 0, err
    assert (seen + out).endswith(log)  # behind the two lines of submit itself, nothing twice
    assert len((seen + out).removesuffix(log).splitlines()) == 2

    stored = (run / "run.json").read_text() + (run / "events.jsonl").read_text()
    assert TOKEN not in seen + out + err + stored
    assert json.loads((run / "run.json").read_text())["config"]["address"] is None


@pytest.mark.slow
def test_a_job_that_fails_gives_its_exit_code_and_its_reason(head, images, tmp_path):
    code, out, err = submit(head, images, *LITE0, "--layer", "nowhere", "--out", tmp_path / "run")
    assert code == 2, err
    assert "shardcam: --layer: " in out
    assert "failed with exit code 2; its log says why" in err


def test_another_cluster_in_the_environment_is_not_asked(head, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://someone:secret@127.0.0.1:9")
    code, out, err = jobs(head, "list")
    assert code == 0
    assert out.split()[:3] == ["job", "state", "exit"]
    assert err == "shardcam: --address wins over RAY_ADDRESS\n"


@pytest.mark.parametrize(
    ("mode", "token", "words"),
    [
        ("disabled", TOKEN, "asks for a token, and none was sent: RAY_AUTH_MODE=token sends"),
        ("token", "another-token-that-is-long-enough", "refuses the token of RAY_AUTH_TOKEN: set"),
    ],
)
def test_a_refused_token_is_explained(head, monkeypatch, mode, token, words):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    code, _, err = jobs(head, "list")
    assert code == 1
    assert err.count("\n") == 1 and words in err and token not in err


@pytest.mark.parametrize(
    ("mode", "token"), [("disabled", TOKEN), ("token", "another-token-that-is-long-enough")]
)
def test_extract_is_told_of_the_token_at_once(head, images, tmp_path, monkeypatch, mode, token):
    """Ray itself tries for twenty seconds, and prints a line for each."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    where = ("--address", head.address, "--out", tmp_path / "run")
    code, out, err = shardcam_process("extract", images, *LITE0, *where)
    assert code == 1
    assert err.count("\n") == 1 and "no token was sent, or another cluster's" in err
    assert "gcs_client" not in out and token not in out + err


@pytest.mark.slow
def test_every_node_is_examined(head, tmp_path):
    code, out, err = shardcam_process(
        "doctor", "--address", head.address, "--out", tmp_path / "not yet"
    )
    assert code == 0, err
    assert "3 CPUs, 0 GPUs" in out
    for line in ("CPU build", "compiled", "the driver's", f"{tmp_path} is the driver's too"):
        assert line in out
    assert not list(tmp_path.iterdir())


def test_of_a_run_nobody_submitted(head, tmp_path):
    code, _, err = jobs(head, "stop", tmp_path / "run")
    assert code == 1
    assert "has no job for it; see shardcam jobs list" in err


@pytest.mark.slow
def test_a_stopped_job_ends_with_4_and_the_same_submit_resumes(head, images, tmp_path):
    run = tmp_path / "run"
    code, out, err = submit(
        head, images, *LITE0, *SLOWLY, "--limit", "12", "--out", run, "--detach"
    )
    assert code == 0, err
    job = id_of(out)
    deadline = time.monotonic() + WAIT
    while not list(run.glob("shards/*.h5")):
        assert time.monotonic() < deadline, jobs(head, "logs", run)
        time.sleep(0.1)

    code, _, err = submit(head, images, *LITE0, *SLOWLY, "--limit", "12", "--out", run)
    assert code == 1
    assert f"{job} works on it already" in err

    code, out, err = jobs(head, "list", run)
    assert f"RUNNING  {'':>4}  " in out and re.search(r"\d of 12 +" + str(run), out), out
    waiting = start("jobs", "wait", run, "--address", head.dashboard)
    follower = start("jobs", "logs", run, "--follow", "--address", head.dashboard)
    assert jobs(head, "stop", run)[0] == 0
    _, err = follower.communicate(timeout=WAIT)
    assert follower.returncode == 4
    assert f"{job} was stopped" in err
    out, err = waiting.communicate(timeout=WAIT)
    assert (waiting.returncode, out) == (4, "") and f"{job} was stopped" in err
    done = len(list(run.glob("shards/*.h5")))
    assert 0 < done < 12
    assert "STOPPED" in jobs(head, "list", run)[1]

    code, out, err = submit(head, images, *LITE0, *SLOWLY, "--limit", "12", "--out", run)
    assert code == 0, err
    assert f"resuming: {done} of 12 shards are done" in out


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--program", "/nowhere/shardcam"), ("--send-code",)])
def test_how_the_cluster_gets_shardcam(head, images, tmp_path, more):
    code, out, err = submit(head, images, *LITE0, "--limit", "4", "--out", tmp_path / "run", *more)
    assert code == (0 if more == ("--send-code",) else 1), err
    assert ("4 listed" in out) == (code == 0)
    assert ("does not find the program" in err) == (code == 1)
    sent = {path.name for path in head.folder.glob("*/runtime_resources/working_dir_files/*/*")}
    assert sent == ({"shardcam"} if code == 0 else set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more", "code"),
    [("bad.onnx", (), 2), ("efficientnet_lite0", ("--max-failed", "0"), 3)],
)
def test_exit_codes_of_extract(head, images, tmp_path, model, more, code):
    (tmp_path / "bad.onnx").write_text("no network")
    name = str(tmp_path / model) if model.endswith("onnx") else model
    found, out, err = submit(head, images, "--model", name, "--out", tmp_path / "run", *more)
    assert found == code, out + err
    assert f"failed with exit code {code}" in err
