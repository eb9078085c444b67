"""Manifests: a file that lists images, with keys, labels and boxes if need be."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from shardcam.engine.errors import SourceError
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.labels import Labels, Names, like_label, shown
from shardcam.engine.readers.manifest_rows import Row, rows
from shardcam.engine.readers.parquet import parquet_rows, require_pyarrow
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.types import Box, Note, Sample, SourceNotes

_LONGEST = 4096  # bytes of a path or a key


class ManifestReader(PartReader):
    """The images that a ``.txt``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file lists.

    In its order. Columns are ``path`` and, if they are there, ``key``, ``label`` and
    ``x0 y0 x1 y1``, a box in pixels of the picture; others are ignored. A line of ``.txt`` is
    a path, behind which a label may be. Backslashes are slashes, unless there is a file that
    has them in its name; spaces around a path are left out where only the file without them is
    there. The key is the path relative to the root, of a file elsewhere the whole path, behind
    it the box, if no key is given. Rows are read one at a time and the images
    are not opened: their sizes are unknown.

    Parameters
    ----------
    path
        The manifest, a path or a URL.
    root
        The folder that every file must be below, whatever links there are in it, a path or a
        URL; None: the manifest's own, and a manifest of this machine may name any file of it.
    cache
        See `engine.readers.part_reader.PartReader`.
    endings
        Lower-case endings of image files, which tell a label in ``.txt`` from a name.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        cache: PartCache | None = None,
        endings: tuple[str, ...] = (),
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._path, self._endings = path, endings
        self._labels = Labels(names)
        self._labelled = self._backslashes = self._spaced = 0
        self._columns: list[str] = []
        self._contained = root is not None or is_url(path)
        if root is not None:
            self._root = root
        elif is_url(path):
            self._root = path.partition("?")[0].rpartition("/")[0]
        else:
            self._root = str(Path(path).parent)
        if not is_url(self._root):
            self._root = os.path.normpath(Path(self._root).absolute())
        self._below = self._root.rstrip("/") + "/"
        if self._is_parquet:
            require_pyarrow(path)

    @property
    def _is_parquet(self) -> bool:
        return self._path.partition("?")[0].lower().endswith(".parquet")

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        self._columns.clear()
        index, self._labelled, self._backslashes, self._spaced = -1, 0, 0, 0
        for index, row in enumerate(self._rows()):
            number, (path, key, label, *sides) = row
            try:
                below, location = self._place(path)
                box = None if sides == _NO_BOX else _box(sides)
                if key is None:
                    key = below if box is None else f"{below}#{','.join(map(str, sides))}"
                elif not _is_text(key):
                    raise ValueError(f"the key {shown(key)} is not a text of 1 to {_LONGEST} bytes")
                self._labelled += label is not None
                cls = self._labels.of(label, "line", number)
                yield Sample(key, index, cls, location, -1, box)
            except ValueError as error:
                raise SourceError(f"{self._path}, line {number}: {error}") from None
        if index < 0:
            raise SourceError(f"{self._path}: no image in it")

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`: what was made of lines and paths."""
        notes, name = [], self._path.partition("?")[0].rpartition("/")[2]
        if self._labelled and name.lower().endswith(".txt"):
            text = f"lines of {name} with a number behind the path, its label: {self._labelled}"
            notes.append(Note("labels", text))
        others = {column.strip().lower() for column in self._columns} - {"label"}
        others -= {"y"} if "x" in others else set()  # a place
        others.discard("labels")  # of --target labels
        like = any(map(like_label, others))
        if self._labels.none and like:
            names = ", ".join(self._columns)[:200]
            text = f"no image has a label; columns: {names} (labels are read from a column label)"
            notes.append(Note("labels", text))
        if self._backslashes:
            text = f"paths of {name} with backslashes, read as slashes: {self._backslashes}"
            notes.append(Note("assumed", text))
        if self._spaced:
            text = f"paths of {name} with spaces around them, without which they are there: "
            notes.append(Note("assumed", f"{text}{self._spaced}"))
        met = self._labels.met()
        return replace(met, notes=(*notes, *met.notes))

    def _part(self, sample: Sample) -> Part:
        if self._contained and not is_url(sample.location):
            top = os.path.realpath(self._root).rstrip("/") + "/"
            if not os.path.realpath(sample.location).startswith(top):
                raise OSError(f"a link leads out of {self._root} (see --root)")
        return sample.location, 0, None

    def _rows(self) -> Iterator[Row]:
        if self._is_parquet:
            return parquet_rows(self._path, self._columns.extend)
        return rows(self._path, self._endings, self._columns.extend)

    def _place(self, path: object) -> tuple[str, str]:
        """A path relative to the root, without ``.`` and ``..`` where it can be, and the file."""
        if not isinstance(path, str) or not _is_text(path):
            raise ValueError(f"the path {shown(path)} is not a text of 1 to {_LONGEST} bytes")
        path = self._stripped(path)
        if path[0] not in "./" and not _SIGNS.search(path):
            return path, self._below + path
        path = self._with_slashes(path)
        if path.startswith("/") and not is_url(self._root):
            path = "/" + posixpath.normpath(path).lstrip("/")  # POSIX keeps two slashes
        if path.startswith("/") or is_url(path):
            if path.startswith(self._below):
                path = path[len(self._below) :]
            elif self._contained or is_url(path):
                raise ValueError(f"the path {shown(path)} is not below {self._root} (see --root)")
        plain = unquote(path) if is_url(self._root) else path
        if ".." in plain.split("/") and self._contained:
            path = posixpath.normpath(plain)
            if path.startswith("..") or is_url(self._root):
                raise ValueError(
                    f"the path {shown(plain)} points outside of {self._root} (see --root)"
                )
        below = posixpath.normpath(path)
        inside = not (self._contained and below.startswith("/"))
        if not inside or below.rpartition("/")[2] in ("", ".", ".."):
            raise ValueError(f"the path {shown(path)} does not name a file below {self._root}")
        return below, below if below.startswith("/") else self._below + below

    def _stripped(self, path: str) -> str:
        """A path without the spaces around it, if that alone is a file."""
        bare = path.strip()
        if bare in ("", path) or is_url(self._root) or is_url(bare):
            return path
        if os.path.lexists(os.path.join(self._root, path)):
            return path
        if not os.path.lexists(os.path.join(self._root, bare)):
            return path
        self._spaced += 1
        return bare

    def _with_slashes(self, path: str) -> str:
        """A path as Windows writes it, unless there is a file of that name."""
        if "\\" not in path or (not is_url(self._root) and os.path.lexists(self._below + path)):
            return path
        if _DRIVE.match(path):
            raise ValueError(
                f"the path {shown(path)} names a drive of Windows; write it relative to the "
                "manifest, or to --root"
            )
        self._backslashes += 1
        return path.replace("\\", "/")


_SIGNS = re.compile(r"/\.|//|%|\\")
_DRIVE = re.compile(r"[A-Za-z]:\\")
_NO_BOX: list[Any] = [None] * 4


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return 0 < len(value.encode()) <= _LONGEST
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can have
        return False


def _box(sides: list[Any]) -> Box:
    """``x0 y0 x1 y1`` -> y0, x0, y1, x1."""
    for value in sides:
        if type(value) not in (int, float) or not isfinite(value):
            raise ValueError(f"the box side {shown(value)} is not a number")
    x0, y0, x1, y1 = map(float, sides)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"the box {x0:g},{y0:g},{x1:g},{y1:g} is empty: x0 < x1 and y0 < y1")
    return y0, x0, y1, x1
