"""The one console, which prints names as far as it can, and how signals stop a command."""

from __future__ import annotations

import _thread
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from shardcam.engine.errors import Interrupted

_PIPED_WIDTH = 160  # columns where output goes to a file or a pipe
_STOPPING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK = 0.05  # seconds between two looks at whether a signal still has its effect


def printable(text: str, kept: str = "") -> str:
    """A text on one line, control characters escaped, but for those that are `kept`."""
    return "".join(c if c.isprintable() or c in kept else f"\\x{ord(c):02x}" for c in text)


def as_utf8(text: str) -> bytes:
    """What is printed to become a file, whatever the terminal's encoding."""
    return text.encode("utf-8", "surrogateescape")


class _Console(Console):
    """Takes texts for what they are: no markup, no emoji codes, no orders to the terminal."""

    def render_str(self, text: str, **settings: Any) -> Text:
        """What is printed of a text, and of a cell of a table."""
        return super().render_str(printable(text, "\n"), **settings)


def make_console() -> Console:
    """A console as wide as the terminal, if there is one."""
    console = _Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


@contextmanager
def stop_on_signals(what_next: str) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP (a closed terminal) raise `Interrupted` in the block.

    A library that is loading or calling back may swallow whatever is raised in it. An exception
    that is gone while the block goes on was swallowed: the signal is then sent again. SIGHUP stays
    ignored where it is, as under ``nohup``.

    Parameters
    ----------
    what_next
        What the same command does when it is given again.
    """
    inside, stopped = True, ""

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = f"stopped by {signal.Signals(number).name}; {what_next}"
        raised = Interrupted(stopped)
        try:
            with suppress(RuntimeError):  # there can be no more threads
                _thread.start_new_thread(insist, (number, weakref.ref(raised)))
            raise raised
        finally:
            del raised  # from its own traceback, which would keep it alive

    def insist(number: int, raised: weakref.ref[Interrupted]) -> None:
        while inside and raised() is not None:
            time.sleep(_LOOK)
        if inside:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    before: dict[int, Any] = {}
    try:
        for number in _STOPPING:
            handler = signal.getsignal(number)
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, stop)
        yield
    except Exception as error:
        if stopped:  # what a library made of it
            raise Interrupted(stopped) from error
        raise
    finally:
        inside = False
        for number, handler in before.items():
            signal.signal(number, handler)
