"""tar archives, one or many, in WebDataset's form: an image, and its label beside it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.finding import find_files, is_pattern, parse_pattern
from shardcam.engine.readers.left_out import LeftOut
from shardcam.engine.readers.location import key_text, listing, place, refusal
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.tar_headers import Member, members
from shardcam.engine.types import NO_LABEL, Sample, SourceNotes

_LABELS = (".cls", ".json")
_COMPANIONS = (*_LABELS, ".txt")  # lie beside images: no word of them where there are any
_LARGEST_LABEL = 1 << 24  # bytes
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_Entry = tuple[str, str, Member]  # name without its ending, ending, member


class TarReader(PartReader):
    """Image members of tar archives, in their order.

    The key is the member's name without its ending; several images that share one keep
    their endings, and in a set of archives the archive's name comes first. The label is
    that of a neighbour of the same name: the number in a ``.cls``, or the one that a ``.json``
    has, alone or as ``label`` or ``cls``. Nothing is extracted: a location is a range of the
    archive.

    Parameters
    ----------
    source
        An archive, a pattern with ``{000..123}``, or one with wildcards; a path or a URL.
    extensions
        Lower-case file name endings that count as images.
    cache
        See `engine.readers.part_reader.PartReader`.
    """

    def __init__(
        self, source: str, extensions: tuple[str, ...], cache: PartCache | None = None
    ) -> None:
        super().__init__(cache)
        self._source = source
        self._extensions = extensions
        self._left_out = LeftOut()

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._left_out = LeftOut()
        index = 0
        for prefix, path in self._archives():
            with listing(path):
                size = files.size(path)
                with open_stream(path) as stream:
                    for key, label, member in self._images(path, stream, size):
                        location = (
                            refusal(path, member.problem)
                            if member.problem
                            else place(path, member.offset, member.size)
                        )
                        yield Sample(prefix + key, index, label, location, member.size)
                        index += 1
        if index == 0:
            looked = " ".join(self._extensions) or "any file"
            nothing = f"{self._source}: no image member in it (looked for {looked})"
            raise SourceError("; ".join([nothing, *self._left_out.lines()]))

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`: what was left out."""
        return SourceNotes(self._left_out.notes(_COMPANIONS))

    def _archives(self) -> Iterator[tuple[str, str]]:
        """Key prefix and path of each archive."""
        single = not is_url(self._source) and Path(self._source).is_file()
        if single or not is_archive_set(self._source):
            yield "", self._source
        elif _BRACES.search(self._source):
            top = self._source[: self._source.index("{")].rpartition("/")[0]
            for path in _expanded(self._source):
                below = path[len(top) :].lstrip("/")
                yield key_text(below.removesuffix(".tar")) + "/", path
        else:
            pattern = parse_pattern(self._source)
            found = sorted(find_files(pattern.root, (".tar",), pattern))
            if not found:
                raise SourceError(f"{self._source}: no archive matches the pattern")
            for key, path, _ in found:
                yield key.removesuffix(".tar") + "/", path

    def _images(self, path: str, stream: BinaryIO, size: int) -> Iterator[tuple[str, int, Member]]:
        """Key, label and member of each image, neighbours of one name taken together."""
        for stem, group in groupby(self._entries(path, stream, size), key=lambda entry: entry[0]):
            images, label = [], NO_LABEL
            for _, ending, member in group:
                if ending in _LABELS:
                    label = _label(path, stream, ending, member)
                else:
                    images.append((ending, member))
            for ending, member in images:
                yield stem + (ending if len(images) > 1 else ""), label, member

    def _entries(self, path: str, stream: BinaryIO, size: int) -> Iterator[_Entry]:
        """Images and labels; hidden members are left out."""
        for member in members(path, stream, size):
            name = member.name.removeprefix("./")
            hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
            stem, ending = posixpath.splitext(name)
            kind = ending.lower()
            if hidden:
                continue
            if name.lower().endswith(self._extensions) and kind not in _LABELS:
                yield key_text(stem), key_text(ending), member
                continue
            self._left_out.file(posixpath.basename(name))
            if kind in _LABELS and not member.problem:
                yield key_text(stem), kind, member


def is_archive_set(source: str) -> bool:
    """Whether a source names several archives."""
    return _BRACES.search(source) is not None or is_pattern(source)


def _expanded(source: str) -> Iterator[str]:
    """``a-{08..10}.tar`` -> ``a-08.tar``, ``a-09.tar``, ``a-10.tar``."""
    found = _BRACES.search(source)
    if found is None:
        yield source
        return
    first, last = found.groups()
    if int(first) > int(last):
        raise SourceError(f"{source}: {found.group()} runs backwards")
    numbers: Iterable[int] = range(int(first), int(last) + 1)
    for number in numbers:
        name = f"{number:0{len(first)}d}"
        yield from _expanded(source[: found.start()] + name + source[found.end() :])


def _label(path: str, stream: BinaryIO, ending: str, member: Member) -> int:
    """The class that a label member gives.

    Raises
    ------
    SourceError
        A ``.cls`` is not a whole number of 0 or more, or a ``.json`` is not JSON.
    """
    stream.seek(member.offset)
    text = stream.read(min(member.size, _LARGEST_LABEL))
    where = f"{path}: {key_text(member.name)}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "a whole number" if ending == ".cls" else "JSON"
        raise SourceError(f"{where}: not {kind}") from error
    if isinstance(value, dict):
        value = value.get("label", value.get("cls"))
    if type(value) is int and 0 <= value < 2**31:
        return value
    if ending == ".cls":
        raise SourceError(f"{where}: not a whole number of 0 or more")
    return NO_LABEL
