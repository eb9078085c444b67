"""The saved listing of a run: read block by block, so that any shard of any source is at hand.

A ZIP file.  ``000000.json``, ``000001.json``, ... hold the samples, each a JSON array of
rows; ``listing.json`` says what they are of.  ZIP has a checksum of each block, and
``listing.json`` one over all of those and itself.  `engine.rundir.write_listing` writes it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, get_origin, get_type_hints, overload
from zipfile import BadZipFile, ZipFile

from shardcam.engine.errors import RunDirectoryError, read_error
from shardcam.engine.types import Note, Sample

VERSION = 2
_BEFORE_NOTES = 1  # the version whose facts have none of _LATER
_LATER: dict[str, Any] = {"notes": [], "classes": {}, "label_range": []}
_REMEDY = "the same extract command lists the source again"
FACTS = "listing.json"
SAMPLE_FIELDS = tuple(f.name for f in fields(Sample))
_LONGEST = 100  # characters of a reason: zipfile quotes what it found
_IDENTITY = attrgetter(*(name for name in SAMPLE_FIELDS if name not in ("index", "location")))
_DAMAGE = (  # what zipfile, json and we raise where the contents are wrong
    ValueError,
    RuntimeError,
    EOFError,
    OverflowError,
    BadZipFile,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)
_DAMAGE_ERRNOS = (None, errno.EINVAL)  # of bz2, and of a seek to where no file has a byte


@dataclass(frozen=True)
class ListingFacts:
    """Origin, size and digest of a listing."""

    created: str  # UTC, when the listing began
    origin: dict[str, Any]  # the options that decide what is listed
    fields: list[str]  # of a sample, in the order of a row
    samples: int
    block: int  # samples in a block; the last one is shorter
    labelled: int  # samples that have a label
    key_bytes: int  # length of the longest key, in UTF-8
    digest: str  # SHA-256 of all fields of each sample but its location
    notes: list[list[str]] = field(default_factory=list)  # kind and text of each
    classes: dict[str, int] = field(default_factory=dict)  # class of each folder, if asked for
    label_range: list[int] = field(default_factory=list)  # the lowest and the highest, if any


_FACTS = {name: get_origin(kind) or kind for name, kind in get_type_hints(ListingFacts).items()}


class Listing:
    """Samples on disk, in the order of the reader; memory holds one block of them.

    Parameters
    ----------
    path
        The file.
    shared
        Whether the workers see it: it is in the run directory, not in a scratch directory.

    Raises
    ------
    RunDirectoryError
        The file is damaged, was edited, or is of another version; reading a block can
        raise it too.
    StoreError
        It cannot be read now, which says nothing about it.
    """

    def __init__(self, path: Path, shared: bool = True) -> None:
        self.path, self.shared = path, shared
        with self._reading():
            self._archive = ZipFile(path)
            self.facts = self._facts()
        self._held: tuple[int, list[Sample]] = (-1, [])

    def __len__(self) -> int:
        return self.facts.samples

    def __iter__(self) -> Iterator[Sample]:
        for number in range(_blocks(self.facts)):
            yield from self._block(number)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was met when the source was listed, besides samples."""
        return tuple(Note(*map(str, note)) for note in self.facts.notes)

    @property
    def created(self) -> datetime:
        return datetime.fromisoformat(self.facts.created)

    def read(self, start: int, stop: int) -> tuple[Sample, ...]:
        """Return the samples at the positions from `start` up to `stop`."""
        size, found = self.facts.block, list[Sample]()
        for number in range(start // size, -(-min(stop, len(self)) // size)):
            first = number * size
            found += self._block(number)[max(start - first, 0) : stop - first]
        return tuple(found)

    def publish(self, path: Path) -> None:
        """Give the file its final name, in the place of another listing if there is one."""
        self.path.replace(path)
        self.path = path

    def close(self) -> None:
        self._archive.close()

    def _block(self, number: int) -> list[Sample]:
        held = self._held  # another thread may read too, and change it
        if held[0] != number:
            with self._reading():
                rows = self._member(block_name(number), list)
                expected = min(self.facts.block, len(self) - number * self.facts.block)
                if len(rows) != expected:
                    raise ValueError(f"{len(rows)} samples in {block_name(number)}")
                if not all(isinstance(r, list) and len(r) == len(SAMPLE_FIELDS) for r in rows):
                    raise ValueError(f"{block_name(number)} has a row that is not a sample")
                held = self._held = number, [Sample(*map(_value, row)) for row in rows]
        return held[1]

    def _facts(self) -> ListingFacts:
        stored = self._member(FACTS, dict)
        version, checksum = stored.pop("version", None), stored.pop("checksum", None)
        if version not in (_BEFORE_NOTES, VERSION):
            raise ValueError("written by another version of shardcam")
        later = _LATER if version == _BEFORE_NOTES else {}
        known = {name: type(value) for name, value in (stored | later).items()}
        if known != _FACTS or stored["block"] < 1:
            raise ValueError("edited")
        facts = ListingFacts(**stored)
        *blocks, last = self._archive.infolist()
        if [info.filename for info in blocks] != [block_name(i) for i in range(_blocks(facts))]:
            raise ValueError("a block is missing")
        if last.filename != FACTS or checksum != facts_checksum(stored, [b.CRC for b in blocks]):
            raise ValueError("edited")
        if tuple(facts.fields) != SAMPLE_FIELDS:
            raise ValueError("written by another version of shardcam")
        return facts

    def _member(self, name: str, kind: type) -> Any:
        """A JSON object or array of the archive."""
        try:
            value = json.loads(self._archive.read(name))
        except LookupError as error:  # not in the archive
            raise ValueError(str(error)) from error
        if not isinstance(value, kind):
            raise ValueError(f"{name} is not of this kind of file")
        return value

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise RunDirectoryError(f"{self.path}: missing; {_REMEDY}") from error
        except (OSError, *_DAMAGE) as error:
            if isinstance(error, OSError) and error.errno not in _DAMAGE_ERRNOS:
                raise read_error(error, self.path) from error
            reason = str(error).partition("\n")[0][:_LONGEST] or type(error).__name__
            raise RunDirectoryError(
                f"{self.path}: cannot be used ({reason}); delete that file and {_REMEDY}"
            ) from error


class SampleRange(Sequence[Sample]):
    """Consecutive samples of a listing, read when they are used.

    Pickled as the range alone, and read where they arrive: that process must see the listing.
    """

    def __init__(self, listing: Listing | Path, start: int, stop: int) -> None:
        self._listing, self._range = listing, range(start, stop)
        self._samples: tuple[Sample, ...] | None = None

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, item: int) -> Sample: ...

    @overload
    def __getitem__(self, item: slice) -> tuple[Sample, ...]: ...

    def __getitem__(self, item: int | slice) -> Sample | tuple[Sample, ...]:
        return self._read()[item]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleRange) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleRange, self._identity()

    @property
    def shared(self) -> bool:
        """Whether the workers see the listing."""
        return isinstance(self._listing, Path) or self._listing.shared

    def _identity(self) -> tuple[Path, int, int]:
        path = self._listing if isinstance(self._listing, Path) else self._listing.path
        return path.absolute(), self._range.start, self._range.stop

    def _read(self) -> tuple[Sample, ...]:
        if self._samples is None:
            listing = self._listing
            if isinstance(listing, Path):
                listing = _open(listing)
            self._samples = listing.read(self._range.start, self._range.stop)
        return self._samples


@lru_cache(maxsize=1)
def _open(path: Path) -> Listing:
    """One for all ranges that have come from another process."""
    return Listing(path)


def block_name(number: int) -> str:
    return f"{number:06d}.json"


def facts_checksum(facts: dict[str, Any], blocks: Sequence[int]) -> str:
    """SHA-256 of the facts, as they are stored, and of the checksums of all blocks."""
    text = json.dumps([facts, list(blocks)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def identity(sample: Sample) -> str:
    """All of a sample but its index and location; what a digest is made of."""
    return "\0".join([str(value) for value in _IDENTITY(sample) if value is not None]) + "\n"


def listing_digest(samples: Iterable[Sample]) -> str:
    """SHA-256 of the identities of all samples."""
    state = hashlib.sha256()
    for sample in samples:
        state.update(identity(sample).encode())
    return state.hexdigest()


def _blocks(facts: ListingFacts) -> int:
    return -(-facts.samples // facts.block)


def _value(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value
