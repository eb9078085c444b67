"""The one console, which prints names as far as it can, and how signals stop a command."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from shardcam.engine.errors import Interrupted

_PIPED_WIDTH = 160  # columns where output goes to a file or a pipe


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


def stop_on_signals(what_next: str) -> None:
    """Let Ctrl-C and SIGTERM raise `Interrupted`; `what_next` says what the same command does."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}; {what_next}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
