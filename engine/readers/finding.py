"""Files below a folder, here or at a URL, all of them or those that match a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.location import key_text, listing

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
    return any(sign in source for sign in ("*[" if is_url(source) else "*?["))


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
        raise SourceError(f"{source}: not a valid pattern: {error}") from error
    return Pattern(root, regex, None if "**" in below else len(below) - 1)


def find_files(
    root: str, endings: tuple[str, ...], pattern: Pattern | None = None
) -> Iterator[Found]:
    """Files with one of the (lower-case) endings, in the order of their keys.

    Hidden files, run directories and linked folders are left out. Memory holds the names of
    one folder and of those above it; at a URL, everything that was found.

    Raises
    ------
    SourceError
        The folder is missing or cannot be listed.
    """
    if is_url(root):
        found: Iterable[Found] = sorted(_remote(root, endings))
    else:
        found = _tree(_top(root), "", endings, pattern)
    return (item for item in found if pattern is None or pattern.below.match(item[0]))


def class_folders(
    root: str, endings: tuple[str, ...], pattern: Pattern | None = None
) -> Iterator[str]:
    """Folders right below a local folder that have such files in them, in the order of their keys.

    Each is searched up to its first file.

    Raises
    ------
    SourceError
        See `find_files`.
    """
    top = _top(root)
    for name in _names(top, endings):
        if name.endswith("/"):
            keys = (key for key, _, _ in _tree(top, name, endings, pattern))
            if any(pattern is None or pattern.below.match(key) for key in keys):
                yield key_text(name[:-1])


def _top(root: str) -> str:
    """The folder itself, with a slash at its end."""
    if not Path(root).is_dir():
        raise SourceError(f"{root}: no such file or folder")
    return os.path.realpath(root).rstrip("/") + "/"


def _tree(
    top: str, inside: str, endings: tuple[str, ...], pattern: Pattern | None
) -> Iterator[Found]:
    """Files below `inside`, which is a folder below `top`."""
    if pattern is not None and pattern.depth is not None and inside.count("/") > pattern.depth:
        return
    open_folders = [(inside, iter(_names(top + inside, endings)))]
    while open_folders:
        inside, names = open_folders[-1]
        deepest = pattern is not None and inside.count("/") == pattern.depth
        for name in names:
            below = inside + name
            if not name.endswith("/"):
                yield key_text(below), top + below, _size(top + below)
            elif not deepest:
                open_folders.append((below, iter(_names(top + below, endings))))
                break
        else:
            open_folders.pop()


def _names(folder: str, endings: tuple[str, ...]) -> list[str]:
    """Files and subfolders to look at, in the order of the keys that begin with them.

    A folder's name ends in a slash, and is sorted with it: the keys of ``a/1.jpg`` and
    ``a.jpg`` differ there.
    """
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name == RUN_MARK:  # a run directory: its overlays are not a source
                    return []
                if name.startswith("."):
                    continue
                if _is_folder(entry):
                    if not entry.is_symlink():
                        names.append(name + "/")
                elif name.lower().endswith(endings):
                    names.append(name)
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}") from error
    names.sort()  # names that are not UTF-8 can share a key
    names.sort(key=key_text)
    return names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


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
                raise SourceError(f"{source}: not a valid pattern: '[' is not closed")
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
