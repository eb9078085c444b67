"""The one console, which prints names as far as it can, and how signals stop a command."""

from __future__ import annotations

import _thread
import errno
import os
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, cast

from rich.console import Console
from rich.text import Text

from shardcam.engine.errors import Interrupted, storage_error
from shardcam.engine.io.plain_text import printable as printable

_PIPED_WIDTH = 100_000  # columns where output goes to a file or a pipe: no line is broken
_PADDING = re.compile(r" +$", re.MULTILINE)  # of tables, whose last column is filled up too
_STOPPING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK = 0.05  # seconds between two looks at whether a signal still has its effect
_GONE = (errno.EIO, errno.EPIPE)  # a terminal that was closed, a pipe that nobody reads


def score_text(score: float) -> str:
    """A probability by its hundredths, and other outputs of a network by four digits."""
    return f"{score:.2f}" if 0 <= score <= 1 else f"{score:.4g}"


def as_utf8(text: str) -> bytes:
    """What is printed to become a file, whatever the terminal's encoding."""
    return text.encode("utf-8", "surrogateescape")


class _Console(Console):
    """Takes texts for what they are: no markup, no emoji codes, no orders to the terminal."""

    def render_str(self, text: str, **settings: Any) -> Text:
        """What is printed of a text, and of a cell of a table."""
        return super().render_str(printable(text), **settings)


def make_console() -> Console:
    """A console as wide as the terminal, if there is one; once that is gone it is silent."""
    stream = None if sys.stdout is None else cast(IO[str], _Outlived(sys.stdout))
    console = _Console(markup=False, highlight=False, emoji=False, file=stream)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


@contextmanager
def outlived(stream: IO[str]) -> Iterator[None]:
    """Print to `stream` in the block; once nobody can read it, what is printed there is dropped.

    Raises
    ------
    DiskFull, RunDirectoryError
        It is a file that cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise storage_error(error, Path("standard output")) from error
        with suppress(OSError, ValueError):  # it has no descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


class _Outlived:
    """A stream that is written to as `outlived` says, without blanks at the ends of lines."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with outlived(self._stream):
            self._stream.write(_PADDING.sub("", text) if text.endswith("\n") else text)
        return len(text)

    def flush(self) -> None:
        with outlived(self._stream):
            self._stream.flush()


@contextmanager
def stop_on_signals(what_next: str) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C, SIGTERM and SIGHUP (a closed terminal) raise `Interrupted` in the block.

    A library that is loading or calling back may swallow whatever is raised in it. An exception
    that is gone, or was only printed, while the block goes on was swallowed: the signal is then
    sent again. A library may also keep it; the function that is given to the block raises it
    again where there was a signal. SIGHUP stays ignored where it is, as under ``nohup``.

    Parameters
    ----------
    what_next
        What the same command does when it is given again.
    """
    inside, stopped, calls = True, "", 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped, calls
        calls += 1
        stopped = f"stopped by {signal.Signals(number).name}; {what_next}"
        raised = Interrupted(stopped)
        try:
            with suppress(RuntimeError):  # there can be no more threads
                _thread.start_new_thread(insist, (number, weakref.ref(raised), calls))
            raise raised
        finally:
            del raised  # from its own traceback, which would keep it alive

    def insist(number: int, raised: weakref.ref[Interrupted], call: int) -> None:
        sent = False
        while calls == call:
            swallowed = raised() in (None, getattr(sys, "last_value", None))
            if not inside:
                return
            # One that comes just before a long call of C is seen after it: so not only once,
            # but for handlers of others, which may wait.
            if swallowed and not (sent and signal.getsignal(number) is not stop):
                signal.pthread_kill(threading.main_thread().ident or 0, number)
                sent = True
            time.sleep(_LOOK)

    def require_no_signal() -> None:
        if stopped:
            raise Interrupted(stopped)

    before: dict[int, Any] = {}
    try:
        for number in _STOPPING:
            handler = signal.getsignal(number)
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, stop)
        yield require_no_signal
    except Exception as error:
        if stopped:  # what a library made of it
            raise Interrupted(stopped) from error
        raise
    finally:
        inside = False
        for number, handler in before.items():
            signal.signal(number, handler)
