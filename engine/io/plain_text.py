"""Texts that somebody else chose, made fit to be printed and to stand in a table."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet computes


def printable(text: str, kept: str = "") -> str:
    """A text on one line, control characters escaped, but for those that are `kept`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else f"\\x{ord(c):02x}" for c in text)


def shortened(text: str, most: int) -> str:
    """A text with dots in place of its middle, where it has more than `most` letters."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 5]} ... {text[-tail:]}"


def cell(text: str) -> str:
    """A text for a cell of a CSV file: printable, and behind a ``'`` where it began a formula."""
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)
