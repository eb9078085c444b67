"""The one console: what users and file names say is printed as it is, not as markup."""

from __future__ import annotations

from rich.console import Console

_PIPED_WIDTH = 160  # columns where output goes to a file or a pipe


def make_console() -> Console:
    """A console as wide as the terminal, if there is one."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
