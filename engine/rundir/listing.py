"""The saved listing of a run: read block by block, so that any shard of any source is at hand.

A ZIP file.  ``000000.json``, ``000001.json``, ... hold the samples, each a JSON array of
rows; ``listing.json`` says what they are of.  ZIP has a checksum of each block, and
``listing.json`` one over all of those and itself.  `engine.rundir.write_listing` writes it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import lzma
import os
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
from shardcam.engine.io.plain_file import open_plain
from shardcam.engine.types import NO_LABEL, Note, Sample, Sizes

VERSION = 3
_LATER: dict[int, dict[str, Any]] = {  # what the facts of earlier versions lack
    1: {"notes": [], "classes": {}, "label_range": [], "sizes": []},
    2: {"sizes": []},
    3: {},
}
_REMEDY = "the same extract command lists the source again"
FACTS = "listing.json"
SAMPLE_FIELDS = tuple(f.name for f in fields(Sample))
_LONGEST = 100  # characters of a reason: zipfile quotes what it found
BLOCK = 2048  # samples; larger ones compress no better and make one sample dearer to read
LARGEST = 1 << 24  # bytes of a block or of the facts: 8 kB for each sample
_PACKED = 256  # times that a listing can be smaller than its contents: 130 with paths of 4 kB
_DIRECTORY = 1 << 26  # bytes of the archive's own list, some 70 for each block
_LABELS, _SIZES = 1 << 31, 1 << 63  # the largest labels and sizes
LONGEST_KEY = 1 << 16  # bytes
_IDENTITY = attrgetter(*(name for name in SAMPLE_FIELDS if name not in ("index", "location")))
_DAMAGE = (  # what zipfile, json and we raise where the contents are wrong
    ValueError,
    RuntimeError,
    EOFError,
    OverflowError,
    RecursionError,
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
    sizes: list[int] = field(default_factory=list)  # of `engine.types.Sizes`, flat; if by size


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
            self._stream = _Steps(open_plain(path))
            self._archive = ZipFile(self._stream)
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
    def sizes(self) -> Sizes | None:
        """Those of the pictures, if they are listed by size."""
        if not self.facts.sizes:
            return None
        distinct, height, width, pixels = self.facts.sizes
        return Sizes(distinct, (height, width), pixels)

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
        self._stream.close()

    def _block(self, number: int) -> list[Sample]:
        held = self._held  # another thread may read too, and change it
        if held[0] != number:
            with self._reading():
                rows = self._member(block_name(number), list)
                expected = min(self.facts.block, len(self) - number * self.facts.block)
                if len(rows) != expected:
                    raise ValueError(f"{len(rows)} samples in {block_name(number)}")
                first = number * self.facts.block
                if not all(_is_sample(row, first + i) for i, row in enumerate(rows)):
                    raise ValueError(f"{block_name(number)} has a row that is not a sample")
                held = self._held = number, [Sample(*map(_value, row)) for row in rows]
                "".join(sample.key for sample in held[1]).encode()  # UTF-8 has no half characters
        return held[1]

    def _facts(self) -> ListingFacts:
        stored = self._member(FACTS, dict)
        version, checksum = stored.pop("version", None), stored.pop("checksum", None)
        if not isinstance(version, int) or version not in _LATER:
            raise ValueError("written by another version of shardcam")
        known = {name: type(value) for name, value in (stored | _LATER[version]).items()}
        if known != _FACTS:
            raise ValueError("edited")
        facts = ListingFacts(**stored)
        _require_possible(facts)
        *blocks, last = members = self._archive.infolist()
        size = os.fstat(self._stream.fileno()).st_size
        if sum(info.file_size for info in members) > size * _PACKED:
            raise ValueError("its contents are too large for it")
        names = map(block_name, range(len(blocks)))
        if len(blocks) != _blocks(facts) or [info.filename for info in blocks] != [*names]:
            raise ValueError("a block is missing")
        if last.filename != FACTS or checksum != facts_checksum(stored, [b.CRC for b in blocks]):
            raise ValueError("edited")
        if tuple(facts.fields) != SAMPLE_FIELDS:
            raise ValueError("written by another version of shardcam")
        return facts

    def _member(self, name: str, kind: type) -> Any:
        """A JSON object or array of the archive."""
        try:
            size = self._archive.getinfo(name).file_size
        except LookupError as error:  # not in the archive
            raise ValueError(str(error)) from error
        if size > LARGEST:
            raise ValueError(f"{name} is too large")
        value = json.loads(self._archive.read(name))
        if not isinstance(value, kind):
            raise ValueError(f"{name} is not of this kind of file")
        return value

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise RunDirectoryError(f"{self.path}: missing; {_REMEDY}") from error
        except MemoryError as error:
            raise read_error(OSError(errno.ENOMEM, "out of memory"), self.path) from error
        except (OSError, *_DAMAGE) as error:
            if isinstance(error, OSError) and error.errno not in _DAMAGE_ERRNOS:
                raise read_error(error, self.path) from error
            reason = str(error).partition("\n")[0][:_LONGEST] or type(error).__name__
            raise RunDirectoryError(
                f"{self.path}: cannot be used ({reason}); delete that file and {_REMEDY}"
            ) from error


class _Steps(io.FileIO):
    """A file of which an archive's reader gets no more at once than an archive of ours has."""

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes."""
        if size is None or size < 0:
            size = _DIRECTORY
        if size > _DIRECTORY:
            raise ValueError("edited")
        return super().read(size) or b""

    def __del__(self) -> None:
        self.close()  # as a file that the archive itself has opened


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


def _require_possible(facts: ListingFacts) -> None:
    """Raise ValueError unless facts can be of a listing."""
    datetime.fromisoformat(facts.created)
    in_range = 0 <= facts.samples < _SIZES and 1 <= facts.block <= BLOCK
    if not in_range or not 0 <= facts.key_bytes <= LONGEST_KEY:
        raise ValueError("its numbers are out of range")
    numbers = [*facts.classes.values(), *facts.label_range]
    if not all(type(number) is int and NO_LABEL <= number <= _LABELS for number in numbers):
        raise ValueError("its classes are not numbers")
    sizes = facts.sizes
    if len(sizes) not in (0, 4) or not all(type(n) is int and 0 <= n <= _SIZES for n in sizes):
        raise ValueError("its sizes are not numbers")
    if not all(isinstance(note, list) and len(note) == 2 for note in facts.notes):
        raise ValueError("its notes are not texts")


def _is_sample(row: Any, index: int) -> bool:
    """Whether a row has the fields of a sample, of their types."""
    if not isinstance(row, list) or len(row) != len(SAMPLE_FIELDS):
        return False
    key, number, label, location, size, box = row
    return (
        type(key) is type(location) is str
        and type(label) is type(size) is int
        and (type(number), number) == (int, index)
        and NO_LABEL <= label <= _LABELS
        and -1 <= size <= _SIZES
        and (box is None or _is_box(box))
    )


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or not all(type(side) in (int, float) for side in box):
        return False
    return len(box) == 4 and all(abs(side) < _SIZES for side in box)


def _value(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value
