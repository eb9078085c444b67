"""tar archives, one or many, in WebDataset's form: an image, and its label beside it."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.finding import find_files, is_pattern, parse_pattern
from shardcam.engine.readers.labels import Labels, Names, like_label
from shardcam.engine.readers.left_out import LeftOut
from shardcam.engine.readers.location import key_text, listing, place, refusal
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.tar_headers import Member, members
from shardcam.engine.types import NO_LABEL, Note, Sample, SourceNotes, counted

_LABELS = (".cls", ".class", ".json", ".jsn", ".txt")  # the first that has one counts
_NOT_READ = (".pyd", ".pickle", ".pkl", ".id", ".cid")  # that WebDataset knows, too
_FIELDS = ("label", "cls", "class", "target")  # of a JSON object; likewise
_LARGEST_LABEL = 1 << 24  # bytes
_LONGEST_NAME = 128  # bytes of a .txt; most are captions
_LARGEST_SAMPLE = 10_000  # members; where names have dots for other reasons there are more
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_Entry = tuple[str, str, Member]  # name without its last ending, that ending, member


class TarReader(PartReader):
    """Image members of tar archives, in their order.

    The key is the member's name without its last ending; several images that share one keep
    their endings, and in a set of archives the archive's name comes first. The label is that
    of a neighbour: of the same name without its last ending, else of the WebDataset sample,
    which is called by the name up to the first dot (``0.left.png`` has that of ``0.cls``). It
    is what a ``.cls``, a ``.json`` or a short ``.txt`` holds, a JSON object as ``label``,
    ``cls``, ``class`` or ``target``. Nothing is extracted: a location is a range of the archive.

    Parameters
    ----------
    source
        An archive, a pattern with ``{000..123}``, or one with wildcards; a path or a URL.
    extensions
        Lower-case file name endings that count as images.
    cache
        See `engine.readers.part_reader.PartReader`.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        source: str,
        extensions: tuple[str, ...],
        cache: PartCache | None = None,
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._source = source
        self._extensions = extensions
        self._labels = Labels(names)
        self._left_out = LeftOut()
        self._unused: Counter[tuple[str, str]] = Counter()  # endings, and why they give no label

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        self._left_out = LeftOut()
        self._unused.clear()
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
        """See `engine.protocols.Reader`: what was left out, and labels that are none."""
        met = self._labels.met()
        notes = [*self._left_out.notes(_LABELS), *met.notes]
        if self._labels.none and self._unused:
            ((ending, why), count), *_ = self._unused.most_common(1)
            text = f"no image has a label; {counted(count, f'{ending} member')} {why}"
            notes.append(Note("labels", text))
        return replace(met, notes=tuple(notes))

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
        """Key, label and member of each image, neighbours of one sample taken together."""
        for name, group in groupby(self._entries(path, stream, size), key=_sample_name):
            together: list[_Entry] = []
            for _, entries in groupby(group, key=itemgetter(0)):
                if len(together) >= _LARGEST_SAMPLE:
                    yield from self._labelled(path, stream, name, together)
                    together = []
                together += entries
            yield from self._labelled(path, stream, name, together)

    def _labelled(
        self, path: str, stream: BinaryIO, name: str, entries: list[_Entry]
    ) -> Iterator[tuple[str, int, Member]]:
        """The same of one sample, whose entries are given."""
        images = [entry for entry in entries if entry[1] not in _LABELS]
        sharing = Counter(stem for stem, _, _ in images)
        beside: dict[str, dict[str, Member]] = {stem: {} for stem in (name, *sharing) if images}
        for stem, ending, member in entries:
            if ending in _LABELS and stem in beside:
                beside[stem][ending] = member
            elif _is_stray(stem, ending, beside):
                self._unused[ending, "beside no image; it must be called as its image is"] += 1
        labels = {stem: self._label(path, stream, beside[stem]) for stem in beside}
        for stem, ending, member in images:
            label = labels[name] if labels[stem] == NO_LABEL else labels[stem]
            yield stem + (ending if sharing[stem] > 1 else ""), label, member

    def _label(self, path: str, stream: BinaryIO, members: dict[str, Member]) -> int:
        """The class that members of one name give; the first that gives any counts."""
        unknown: list[tuple[Any, str]] = []
        for ending in filter(members.__contains__, _LABELS):
            member = members[ending]
            if ending == ".txt" and member.size > _LONGEST_NAME:
                continue
            stream.seek(member.offset)
            stored = _stored(stream.read(min(member.size, _LARGEST_LABEL)))
            if isinstance(stored, dict) and not any(name in stored for name in _FIELDS):
                if found := next(filter(like_label, stored), None):
                    fields = ", ".join(_FIELDS)
                    self._unused[ending, f"with {found!r}; labels are read from {fields}"] += 1
                continue
            for value in _values(stored):
                label = self._labels.understood(value)
                if label is None and ending != ".txt":
                    unknown.append((value, f"{path}: {key_text(member.name)}"))
                elif label not in (None, NO_LABEL):
                    return label
        return self._labels.of(*unknown[0]) if unknown else NO_LABEL

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
            if kind in _NOT_READ:
                self._unused[kind, f"cannot be read; labels are in {' '.join(_LABELS)}"] += 1
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


def _sample_name(entry: _Entry) -> str:
    """What WebDataset calls the sample of a member: its name up to the first dot."""
    folder, slash, name = entry[0].rpartition("/")
    return folder + slash + name.partition(".")[0]


def _is_stray(stem: str, ending: str, beside: Collection[str]) -> bool:
    """Whether a member that belongs to no image may be a label; `beside` are those that do."""
    if ending in (".cls", ".class"):
        return True
    if ending == ".txt":
        return stem.lower().endswith((".cls", ".class", ".label"))
    return ending in _LABELS and bool(beside)


def _stored(text: bytes) -> Any:
    """What a member holds: JSON, or a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _values(stored: Any) -> list[Any]:
    """What can be the label in that."""
    if isinstance(stored, dict):
        return [stored[name] for name in _FIELDS if name in stored]
    return [stored]
