"""The log of a job is printed once, whatever happens to the connection; outcomes are exit codes."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardcam.engine.errors import Interrupted, JobFailed, ShardcamError
from shardcam.jobs.cluster import follow_log as following
from shardcam.jobs.cluster.follow_log import Follower, Unreachable, raise_outcome

LOG = "".join(f"line {i}\n" for i in range(12))
JOB = "shardcam-run-1"


class State(str):
    def is_terminal(self):
        return self in ("SUCCEEDED", "FAILED", "STOPPED")


def details(status, code=None, message=None):
    return SimpleNamespace(status=State(status), driver_exit_code=code, message=message)


class Cluster:
    """Its connections break after so many characters each; the job ends after the last."""

    address = "http://head:8265"

    def __init__(self, breaks, pieces=7, silent=False):
        self._breaks, self._pieces, self._silent = list(breaks), pieces, silent
        self.answers = 0

    def info(self, job):
        self.answers += 1
        if self._breaks and self.answers % 2:
            raise Unreachable("refused")
        return details("RUNNING" if self._breaks else "SUCCEEDED")

    def logs(self, job):
        return LOG

    async def tail(self, job):
        end = self._breaks.pop(0)
        for start in range(0, end, self._pieces):
            yield LOG[start : min(start + self._pieces, end)]
        if self._silent:
            await asyncio.sleep(3600)
        raise OSError("connection reset")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(following, "PAUSE", 0.0)


def test_waiting_asks_for_no_log(capsys):
    answers = [details("PENDING"), Unreachable("refused"), details("RUNNING"), details("FAILED", 3)]

    def info(job):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cluster = SimpleNamespace(address="http://head:8265", info=info)
    assert asyncio.run(Follower(cluster, JOB).wait()).driver_exit_code == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.rpartition(": ")[2] for line in err.splitlines()] == [
        "refused",
        "http://head:8265 answers again",
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(LOG)), max_size=6), st.integers(1, 200))
def test_every_character_is_printed_once(breaks, pieces):
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following.click, "echo", lambda t, nl=True, err=False: err or shown.append(t))
        info = asyncio.run(Follower(Cluster(breaks, pieces), JOB).follow())
    assert "".join(shown) == LOG
    assert info.status == "SUCCEEDED"


def test_a_connection_that_only_keeps_silent_does_not_hide_the_end(monkeypatch, capsys):
    monkeypatch.setattr(following, "SILENCE", 0.01)
    asyncio.run(Follower(Cluster([20], silent=True), JOB).follow())
    assert capsys.readouterr().out == LOG


def test_a_break_is_told_once_and_so_is_its_end(capsys):
    asyncio.run(Follower(Cluster([10, 20, 30]), JOB).follow())
    told = capsys.readouterr().err.splitlines()
    lost = "shardcam: connection lost, trying again: "
    assert [line.startswith(lost) for line in told] == [True, False] * (len(told) // 2)
    assert told[1] == "shardcam: http://head:8265 answers again"


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    with pytest.raises(ShardcamError, match=rf"no answer for 0 s.*jobs logs {JOB} --follow"):
        asyncio.run(Follower(Cluster([10]), JOB).follow())


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_a_failed_job_gives_its_own_exit_code(code):
    with pytest.raises(JobFailed, match=f"exit code {code}") as caught:
        raise_outcome(JOB, details("FAILED", code))
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (None, "the supervisor\ndied", f"{JOB} failed: the supervisor died"),
        (137, "killed", f"{JOB} failed: killed"),
        (127, None, "does not find the program: install shardcam"),
    ],
)
def test_a_job_that_ended_otherwise_gives_1(code, message, words):
    with pytest.raises(JobFailed, match=words) as caught:
        raise_outcome(JOB, details("FAILED", code, message))
    assert caught.value.exit_code == 1


def test_a_stopped_job_is_no_success():
    with pytest.raises(Interrupted, match="the same submit resumes"):
        raise_outcome(JOB, details("STOPPED"))
    raise_outcome(JOB, details("SUCCEEDED", 0))
