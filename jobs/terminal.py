"""The one console: what users and file names say is printed as it is, not as markup."""

from __future__ import annotations

from rich.console import Console

_PIPED_WIDTH = 160  # columns where output goes to a file or a pipe


def printable(text: str) -> str:
    """A text on one line, whatever is in it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def make_console() -> Console:
    """A console as wide as the terminal, if there is one."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
