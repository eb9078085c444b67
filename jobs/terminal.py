"""The one console, which prints file names as they are, and how signals stop a command."""

from __future__ import annotations

import signal
from types import FrameType

from rich.console import Console

from shardcam.engine.errors import Interrupted

_PIPED_WIDTH = 160  # columns where output goes to a file or a pipe


def printable(text: str) -> str:
    """A text on one line, control characters escaped."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def make_console() -> Console:
    """A console as wide as the terminal, if there is one."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


def stop_on_signals(what_next: str) -> None:
    """Let Ctrl-C and SIGTERM raise `Interrupted`; `what_next` says what the same command does."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}; {what_next}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
