"""Files below a folder, here or at a URL, all of them or those that match a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.errors import SourceError
from engine.readers.location import key_text, listing

RUN_MARK = "run.json"
Found = tuple[str, str, int]  # path relative to the folder, path, size in bytes


@dataclass(frozen=True)
class Pattern:
    """A shell pattern, split into the folder to search and what must match below it."""

    root: str
    below: re.Pattern[str]
    depth: int | None  # folders to descend; None: all of them


def is_pattern(source: str) -> bool:
    """Whether a source has wildcards; a ``?`` in a URL begins its query."""
    return any(sign in source for sign in ("*[" if files.is_url(source) else "*?["))


def parse_pattern(source: str) -> Pattern:
    """``photos/**/*.jpg``: ``*`` and ``?`` stay within a name, ``**`` is any folders.

    Raises
    ------
    SourceError
        A bracket is not closed.
    """
    parts = source.split("/")
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    root, below = "/".join(parts[:first]), parts[first:]
    if not root:
        root = "/" if source.startswith("/") else "."
    steps = ["(?:[^/]+/)*" if part == "**" else _segment(part, source) + "/" for part in below]
    last = "(?:[^/]+/)*[^/]+/" if below[-1] == "**" else steps[-1]
    try:
        regex = re.compile("".join([*steps[:-1], last]).removesuffix("/") + r"\Z", re.DOTALL)
    except re.error as error:
        raise SourceError(f"{source}: no pattern: {error}") from error
    return Pattern(root, regex, None if "**" in below else len(below) - 1)


def find_files(
    root: str, endings: tuple[str, ...], pattern: Pattern | None = None
) -> Iterator[Found]:
    """Files with one of the (lower-case) endings, in no particular order.

    Hidden files, run directories and linked folders are left out.

    Raises
    ------
    SourceError
        The folder is missing or cannot be listed.
    """
    found = _remote(root, endings) if files.is_url(root) else _local(root, endings, pattern)
    return (item for item in found if pattern is None or pattern.below.match(item[0]))


def _local(root: str, endings: tuple[str, ...], pattern: Pattern | None) -> Iterator[Found]:
    if not Path(root).is_dir():
        raise SourceError(f"{root}: no such file or folder")
    top = os.path.realpath(root)
    start = len(top.rstrip("/")) + 1
    deepest = None if pattern is None else pattern.depth
    for folder, subfolders, names in os.walk(top, onerror=_unreadable):
        if RUN_MARK in names:  # a run directory: its overlays are no source
            subfolders.clear()
            continue
        below = folder[start:]
        if deepest is not None and (below.count("/") + 1 if below else 0) >= deepest:
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(endings) and not name.startswith("."):
                path = os.path.join(folder, name)
                yield key_text(path[start:]), path, _size(path)


def _remote(root: str, endings: tuple[str, ...]) -> Iterator[Found]:
    top = ""
    with listing(root):
        for folder, subfolders, names in files.walk(root):
            top = top or folder.rstrip("/") + "/"
            if RUN_MARK in names:
                subfolders.clear()
                continue
            for name in [name for name in subfolders if name.startswith(".")]:
                del subfolders[name]
            for name, details in names.items():
                if name.lower().endswith(endings) and not name.startswith("."):
                    path = f"{folder.rstrip('/')}/{name}"
                    yield key_text(path.removeprefix(top)), path, int(details.get("size") or -1)


def _segment(part: str, source: str) -> str:
    """The regular expression of one name in a pattern."""
    regex, at = "", 0
    while at < len(part):
        sign = part[at]
        if sign in "*?":
            regex += "[^/]*" if sign == "*" else "[^/]"
        elif sign == "[":
            end = part.find("]", at + 2)
            if end < 0:
                raise SourceError(f"{source}: no pattern: '[' is not closed")
            inside = part[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            regex += f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
            at = end
        else:
            regex += re.escape(sign)
        at += 1
    return regex


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # a dangling link: the reader will say so when it is read
        return -1


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}")
