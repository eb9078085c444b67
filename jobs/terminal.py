"""The one console, which prints names as far as it can."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.text import Text

from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_text import printable as printable
from shardcam.jobs.stopping import stop_on_signals as stop_on_signals

_PIPED_WIDTH = 100_000  # columns where output goes to a file or a pipe: no line is broken
_PADDING = re.compile(r" +$", re.MULTILINE)  # of tables, whose last column is filled up too
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
