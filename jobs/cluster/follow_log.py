"""The log of a job as it grows, over as many connections as it takes, and the job's outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol

import click

from shardcam.engine.errors import Interrupted, JobFailed, ShardcamError

SILENCE = 10.0  # seconds without a line until the cluster is asked whether the job still runs
PAUSE = 2.0  # seconds between two tries to connect
PATIENCE = 600.0  # seconds of tries before giving up
ANSWER = 30.0  # seconds an answer may take
COMMAND_NOT_FOUND = 127  # a shell's exit code


class Unreachable(ShardcamError):
    """The cluster does not answer now; it may later."""


class JobSource(Protocol):
    """The cluster that a follower asks; all but `tail` raise `Unreachable`."""

    address: str

    def info(self, job: str) -> Any:
        """Ray's JobDetails."""

    def logs(self, job: str) -> str:
        """The log so far."""

    def tail(self, job: str) -> AsyncGenerator[str, None]:
        """The log from its beginning, in pieces, until the job ends or the connection does."""


class Follower:
    """Prints each character of a job's log once."""

    def __init__(self, jobs: JobSource, job: str) -> None:
        self._jobs, self._job = jobs, job
        self._printed = 0  # characters of the log
        self._lost = False  # and reported

    async def follow(self) -> Any:
        """Print the log, and return what Ray knows of the job when it has ended."""
        info = await self._until_ended(self._tail)
        await self._rest()
        return info

    async def wait(self) -> Any:
        """Do as `follow`, but print no log."""
        return await self._until_ended(self._pause)

    async def _until_ended(self, meanwhile: Callable[[], Awaitable[None]]) -> Any:
        answered = time.monotonic()
        while True:
            try:
                info = await self._info()
                answered = time.monotonic()
                if info.status.is_terminal():
                    return info
                await meanwhile()
                await asyncio.sleep(PAUSE / 4)  # the log has ended, the job's state follows
            except Unreachable as error:
                if not self._lost:
                    self._lost = True
                    click.echo(f"shardcam: connection lost, trying again: {error}", err=True)
                if time.monotonic() - answered > PATIENCE:
                    raise ShardcamError(
                        f"--address {self._jobs.address}: no answer for {PATIENCE:g} s; the job "
                        f"may go on: shardcam jobs logs {self._job} --follow"
                    ) from None
                await asyncio.sleep(PAUSE)

    async def _info(self) -> Any:
        question = asyncio.to_thread(self._jobs.info, self._job)
        try:
            return await asyncio.wait_for(question, ANSWER)
        except asyncio.TimeoutError:
            raise Unreachable(f"no answer for {ANSWER:g} s") from None

    async def _pause(self) -> None:
        self._print("", 0)
        await asyncio.sleep(PAUSE)

    async def _tail(self) -> None:
        """Print what one connection brings; it begins at the start of the log."""
        seen = 0
        try:
            async with aclosing(self._jobs.tail(self._job)) as pieces:
                while (text := await self._next(pieces)) is not None:
                    self._print(text, seen)
                    seen += len(text)
        except ShardcamError:
            raise
        except Exception as error:  # whatever a web socket raises: `info` reports what is wrong
            raise Unreachable(one_line(error) or type(error).__name__) from None

    async def _next(self, pieces: AsyncGenerator[str, None]) -> str | None:
        """The next piece; None when the log or the job has ended."""
        waiting = asyncio.ensure_future(_first(pieces))
        try:
            while not (await asyncio.wait([waiting], timeout=SILENCE))[0]:
                if (await self._info()).status.is_terminal():  # the web socket is dead
                    return None
            return waiting.result()
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])

    async def _rest(self) -> None:
        """What came after the last line that was seen."""
        with suppress(ShardcamError):  # its node may be gone: the outcome is known all the same
            self._print(await asyncio.to_thread(self._jobs.logs, self._job), 0)

    def _print(self, text: str, start: int) -> None:
        """Print what is new of a text that begins at `start` of the log."""
        if self._lost:
            self._lost = False
            click.echo(f"shardcam: {self._jobs.address} answers again", err=True)
        new = text[max(self._printed - start, 0) :]
        click.echo(new, nl=False)
        self._printed += len(new)


async def _first(pieces: AsyncGenerator[str, None]) -> str | None:
    async for text in pieces:
        return text
    return None


def raise_outcome(job: str, info: Any) -> None:
    """Nothing for a job that succeeded; else an error with the exit code of extract.

    Raises
    ------
    JobFailed, Interrupted
        It failed, or was stopped.
    """
    code, status = info.driver_exit_code, str(info.status)
    if status == "SUCCEEDED":
        return
    if status == "STOPPED":
        raise Interrupted(f"{job} was stopped; the same submit resumes its run")
    if code == COMMAND_NOT_FOUND:
        raise JobFailed(
            f"{job}: the cluster's head node does not find the program: install shardcam there, "
            "start Ray from its activated environment, or give --program or --send-code",
            ShardcamError.exit_code,
        )
    if code is not None and 0 < code <= 5:
        raise JobFailed(f"{job} failed with exit code {code}; its log says why", code)
    why = one_line(info.message or "no reason given")
    raise JobFailed(f"{job} failed: {why}", ShardcamError.exit_code)


def one_line(error: object) -> str:
    """An error, or a message, on one line."""
    return " ".join(str(error).split())[:500]
