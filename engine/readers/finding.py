"""Files below a folder, here or at a URL, all of them or those that match a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.left_out import Folder, LeftOut
from shardcam.engine.readers.location import key_text, listing

RUN_MARK = "run.json"
Found = tuple[str, str, int]  # path relative to the folder, path, size in bytes
_Identity = tuple[int, int]  # device and inode of a folder
_Open = tuple[str, Iterator[str], "_Identity | None"]  # its path, the names still to come


@dataclass(frozen=True)
class Pattern:
    """A shell pattern, split into the folder to search and what must match below it."""

    root: str
    below: re.Pattern[str]
    depth: int | None  # folders to descend; None: all of them

    def reaches(self, inside: str) -> bool:
        """Whether files in a folder, named with its slash, can match."""
        return self.depth is None or inside.count("/") <= self.depth


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
    while first < len(parts) - 1 and _is_folder_here("/".join(parts[: first + 1])):
        first += 1  # its name has signs of patterns
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
    root: str,
    endings: tuple[str, ...],
    pattern: Pattern | None = None,
    follow_links: bool = False,
    left_out: LeftOut | None = None,
) -> Iterator[Found]:
    """Files with one of the (lower-case) endings, in the order of their keys.

    Hidden files, run directories and, unless they are followed, linked folders are left out.
    Memory holds the names of one folder and of those above it; at a URL, everything that was
    found.

    Parameters
    ----------
    follow_links
        Enter linked folders of this machine: each once, and none that is above the link. Keys are
        the paths as seen.
    left_out
        Is told of what is left out.

    Raises
    ------
    SourceError
        The folder is missing or cannot be listed.
    """
    left_out = left_out or LeftOut()
    if is_url(root):
        found: Iterable[Found] = sorted(_remote(root, endings, pattern, left_out))
    else:
        found = _Tree(root, endings, pattern, follow_links, left_out).files()
    return (item for item in found if pattern is None or pattern.below.match(item[0]))


def class_folders(
    root: str,
    endings: tuple[str, ...],
    pattern: Pattern | None = None,
    follow_links: bool = False,
) -> Iterator[str]:
    """Folders right below a local folder that have such files in them, in the order of their keys.

    Each is searched up to its first file.

    Raises
    ------
    SourceError
        See `find_files`.
    """
    tree = _Tree(root, endings, pattern, follow_links, LeftOut())
    for name in tree.names(""):
        if name.endswith("/"):
            keys = (key for key, _, _ in tree.files(name))
            if any(pattern is None or pattern.below.match(key) for key in keys):
                yield key_text(name[:-1])


class _Tree:
    """The files below a local folder."""

    def __init__(
        self,
        root: str,
        endings: tuple[str, ...],
        pattern: Pattern | None,
        follow_links: bool,
        left_out: LeftOut,
    ) -> None:
        if not Path(root).is_dir():
            raise SourceError(f"{root}: no such file or folder")
        self._top = os.path.realpath(root).rstrip("/") + "/"
        self._endings, self._pattern = endings, pattern
        self._follow_links, self._left_out = follow_links, left_out
        self._followed: set[_Identity] = set()  # linked folders

    def files(self, first: str | None = None) -> Iterator[Found]:
        """All of them, or those below `first`, which is a folder right below the top."""
        names = self.names("") if first is None else [first]
        open_folders: list[_Open] = [("", iter(names), self._identity(""))]
        while open_folders:
            inside, to_come, _ = open_folders[-1]
            for name in to_come:
                below = inside + name
                if not name.endswith("/"):
                    yield key_text(below), self._top + below, _size(self._top + below)
                elif not self._is_too_deep(below):
                    identity = self._identity(below)
                    if identity and self._is_seen(below, identity, open_folders):
                        self._left_out.folder(Folder.SEEN, below)
                        continue
                    open_folders.append((below, iter(self.names(below)), identity))
                    break
            else:
                open_folders.pop()

    def names(self, inside: str) -> list[str]:
        """Files and subfolders to look at, in the order of the keys that begin with them.

        A folder's name ends in a slash, and is sorted with it: the keys of ``a/1.jpg`` and
        ``a.jpg`` differ there.
        """
        names: list[str] = []
        left: list[tuple[str, Folder | None]] = []
        try:
            with os.scandir(self._top + inside) as entries:
                for entry in entries:
                    name = entry.name
                    if name == RUN_MARK:  # a run directory: its overlays are not a source
                        self._left_out.folder(Folder.RUN, inside)
                        return []
                    if name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if self._follow_links or not entry.is_symlink():
                            names.append(name + "/")
                        else:
                            left.append((name, Folder.LINK))
                    elif name.lower().endswith(self._endings):
                        names.append(name)
                    else:
                        broken = entry.is_symlink() and not Path(entry.path).exists()
                        left.append((name, Folder.BROKEN if broken else None))
        except OSError as error:
            raise SourceError(f"{error.filename}: {error.strerror}") from error
        for name, why in sorted(left, key=itemgetter(0)):
            self._leave_out(inside, name, why)
        names.sort()  # names that are not UTF-8 can share a key
        names.sort(key=key_text)
        return names

    def _leave_out(self, inside: str, name: str, why: Folder | None) -> None:
        """Tell of a folder, or of a file that only its ending keeps from being listed."""
        if why is Folder.LINK:
            if not self._is_too_deep(f"{inside}{name}/"):
                self._left_out.folder(why, inside + name)
        elif self._pattern is None or self._pattern.below.match(key_text(inside + name)):
            if why is None:
                self._left_out.file(name)
            else:
                self._left_out.folder(why, inside + name)

    def _is_too_deep(self, inside: str) -> bool:
        return self._pattern is not None and not self._pattern.reaches(inside)

    def _identity(self, inside: str) -> _Identity | None:
        """That of a folder; None where no link leads to one."""
        if not self._follow_links:
            return None
        try:
            found = os.stat(self._top + inside)
        except OSError as error:
            raise SourceError(f"{error.filename}: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _is_seen(self, inside: str, identity: _Identity, open_folders: list[_Open]) -> bool:
        """Whether a folder is one of those above it, or a link to one that was followed."""
        if any(identity == above for _, _, above in open_folders):
            return True
        if not Path(self._top + inside).is_symlink():
            return False
        if identity in self._followed:
            return True
        self._followed.add(identity)
        return False


def _is_folder_here(path: str) -> bool:
    return not is_url(path) and Path(path).is_dir()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _remote(
    root: str, endings: tuple[str, ...], pattern: Pattern | None, left_out: LeftOut
) -> Iterator[Found]:
    top = ""
    with listing(root):
        for folder, subfolders, names in files.walk(root):
            top = top or folder.rstrip("/") + "/"
            inside = folder.rstrip("/") + "/"
            if RUN_MARK in names:
                if pattern is None or pattern.reaches(inside.removeprefix(top)):
                    left_out.folder(Folder.RUN, inside.removeprefix(top))
                subfolders.clear()
                continue
            for name in [name for name in subfolders if name.startswith(".")]:
                del subfolders[name]
            for name, details in names.items():
                key = key_text((inside + name).removeprefix(top))
                if not name or name.startswith("."):
                    continue
                if name.lower().endswith(endings):
                    yield key, inside + name, int(details.get("size") or -1)
                elif pattern is None or pattern.below.match(key):
                    left_out.file(name)


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
