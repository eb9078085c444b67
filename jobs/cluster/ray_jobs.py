"""The jobs of a Ray cluster: the only place that speaks to Ray Jobs.

A connection that breaks is made again, and the log goes on where it was; the job's own outcome
is asked for, and becomes the exit code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from shardcam.engine.errors import ConfigError, Interrupted, ShardcamError
from shardcam.jobs.cluster.follow_log import PAUSE, Follower, Unreachable, one_line, raise_outcome
from shardcam.jobs.cluster.submission import ADDRESS_VARIABLES, RUN_KEY, Submission

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TOKEN_FILE = Path("~/.ray/auth_token")  # where Ray itself looks
TALKERS = (  # loggers that set a level of their own
    "dashboard.modules.dashboard_sdk",
    "dashboard.modules.job.sdk",
    "_private.runtime_env.packaging",
    "_private.runtime_env.working_dir",
)


class RayJobs:
    """The jobs of a cluster, by its dashboard.

    Parameters
    ----------
    address
        ``http://HOST:PORT``, or None to take Ray's environment variables.

    Raises
    ------
    ShardcamError
        Nobody answers, somebody else does, or the token is refused; one line says what to do.
    """

    def __init__(self, address: str | None) -> None:
        self.address = _dashboard(address)
        _require_token()
        _require_answer(self.address)
        self._client = self._asked(self._connect)

    def _connect(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        for name in TALKERS:
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
        try:
            return JobSubmissionClient(self.address)
        finally:
            os.environ.update(hidden)

    def submit(self, submission: Submission) -> None:
        """Start a job, unless another one works on its run."""
        for info in self.of_run(submission.run):
            if not info.status.is_terminal():
                raise ShardcamError(
                    f"{submission.run}: {info.submission_id} works on it already; see "
                    f"shardcam jobs logs {submission.run} --follow"
                )
        self._asked(
            self._client.submit_job,
            entrypoint=submission.entrypoint,
            submission_id=submission.id,
            runtime_env=submission.runtime_env,
            metadata=submission.metadata,
        )

    def all(self) -> list[Any]:
        """Every job that shardcam submitted, the latest first."""
        ours = [i for i in self._asked(self._client.list_jobs) if RUN_KEY in (i.metadata or {})]
        return sorted(ours, key=lambda info: info.start_time or 0, reverse=True)

    def of_run(self, run: str) -> list[Any]:
        """The jobs of a run directory, the latest first."""
        return [info for info in self.all() if info.metadata[RUN_KEY] == run]

    def info(self, job: str) -> Any:
        """What Ray knows of a job."""
        return self._asked(self._client.get_job_info, job)

    def logs(self, job: str) -> str:
        """What a job has printed so far."""
        text: str = self._asked(self._client.get_job_logs, job)
        return text

    def tail(self, job: str) -> AsyncGenerator[str, None]:
        """The log as it grows."""
        pieces: AsyncGenerator[str, None] = self._client.tail_job_logs(job)
        return pieces

    def stop(self, job: str) -> None:
        """Stop a job and wait for its end."""
        self._asked(self._client.stop_job, job)
        while not self.info(job).status.is_terminal():
            time.sleep(PAUSE / 4)

    def follow(self, job: str, log: bool = True) -> None:
        """Print the log as it grows, or nothing, until the job ends.

        Raises
        ------
        JobFailed, Interrupted
            The job's outcome, if it did not succeed.
        """
        try:
            follower = Follower(self, job)
            info = asyncio.run(follower.follow() if log else follower.wait())
        except Interrupted:
            raise Interrupted(
                f"no longer following; {job} goes on: shardcam jobs logs {job} --follow, or "
                f"shardcam jobs stop {job}"
            ) from None
        raise_outcome(job, info)

    def _asked(self, question: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The answer, or one line for what can go wrong on the way."""
        from ray.exceptions import AuthenticationError
        from requests.exceptions import RequestException

        try:
            return question(*arguments, **named)
        except AuthenticationError:
            raise ShardcamError(_refusal(self.address)) from None
        except (ConnectionError, RequestException) as error:
            raise Unreachable(f"--address {self.address}: {one_line(error)}") from None
        except (RuntimeError, ValueError) as error:
            text = one_line(error)
            if "status code 404" in text:
                raise ShardcamError(
                    f"{self.address}: no such job; the cluster forgets its jobs when it is "
                    "restarted, and the same submit resumes the run"
                ) from None
            if "status code 5" in text:
                raise Unreachable(f"--address {self.address}: {text}") from None
            raise ShardcamError(f"--address {self.address}: {text}") from None


def _dashboard(address: str | None) -> str:
    known = {name: value for name in ADDRESS_VARIABLES if (value := os.environ.get(name))}
    if address is None:
        usable = [v for v in known.values() if v.startswith(("http://", "https://"))]
        address = usable[0] if usable else DEFAULT_ADDRESS
    elif ignored := [name for name, value in known.items() if value != address]:
        click.echo(f"shardcam: --address wins over {' and '.join(ignored)}", err=True)
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    if not good:
        raise ConfigError(
            f"--address {address}: submit takes the dashboard's address, such as {DEFAULT_ADDRESS}"
        )
    if parts.username or parts.password or parts.query:
        raise ConfigError("--address takes no password: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN")
    return address.rstrip("/")


def _require_answer(address: str) -> None:
    """Knock first: an HTTP request to a machine that is not there takes minutes."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise ShardcamError(
            f"--address {address}: no dashboard answers: {error}; was the head started with one "
            "(ray start --head --include-dashboard=true), and is a tunnel needed?"
        ) from None


def _require_token() -> None:
    """In token mode Ray ends the process with a stack trace where it finds no token."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else TOKEN_FILE.expanduser()
    try:
        found = bool(file.read_text().strip())
    except OSError:
        found = False
    if not found:
        raise ConfigError(
            f"RAY_AUTH_MODE=token, but there is no token in RAY_AUTH_TOKEN or in {file}"
        )


def _refusal(address: str) -> str:
    """The message for a 401 or 403."""
    mode, named = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    place = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else named or str(TOKEN_FILE)
    if mode == "token":
        return (
            f"{address} refuses the token of {place}: set RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) "
            "to that of the `ray start` which began the cluster"
        )
    there = os.environ.get("RAY_AUTH_TOKEN") or Path(place).expanduser().is_file()
    what = f"sends the token of {place}" if there else "and RAY_AUTH_TOKEN=... send one"
    return (
        f"{address} asks for a token, and none was sent: RAY_AUTH_MODE=token {what}. It must be "
        "that of the cluster: `ray get-auth-token` on its head prints it"
    )
