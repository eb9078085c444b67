"""RecordIO: the ``.rec`` files that MXNet's im2rec writes, with or without ``.idx``.

A record is a magic word, a word of 3 bits of flag and 29 bits of length, that many bytes,
and zeros up to the next multiple of 4.  A payload that holds the magic word at such a
multiple is split there and the word left out; flag 0 is a whole record, 1, 2 and 3 are
first, middle and last part (dmlc-core, ``include/dmlc/recordio.h``).  A payload begins
with the header ``IfQQ`` of flag, label, id and id2; a flag above 0 says that as many
float32 labels follow (MXNet 1.9.1, ``recordio.py``, ``pack``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from typing import BinaryIO

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.labels import Labels, Names
from shardcam.engine.readers.location import listing, place, refusal
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.types import Sample, SourceNotes

_MAGIC = b"\x0a\x23\xd7\xce"  # 0xced7230a, little-endian
_WORD = struct.Struct("<I")
_HEADER = struct.Struct("<IfQQ")
_LABEL = struct.Struct("<f")
_LENGTH = (1 << 29) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_LONGEST_LINE = 256  # of an index


@dataclass(frozen=True)
class _Record:
    """A record's position, and what the listing needs of it."""

    offset: int
    length: int  # on disk, with all its parts; 0 where its end is not known
    label: float  # NaN where there is none
    problem: str  # why it cannot be read, if so


class RecordReader(PartReader):
    """The records of a ``.rec`` file.

    With ``FILE.idx`` beside it, records come in the index's order and the key is the
    index's; without, in the file's order, and the key is the record's number.  Of many
    labels the first is kept.

    Parameters
    ----------
    path
        The file, whose name ends in ``.rec``; a path or a URL.
    cache
        See `engine.readers.part_reader.PartReader`.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self, path: str, cache: PartCache | None = None, names: Callable[[], Names] = Names
    ) -> None:
        super().__init__(cache)
        self._labels = Labels(names)
        self._path = path
        self._index = path[: -len(".rec")] + ".idx"

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        with listing(self._path):
            size = files.size(self._path)
            with open_stream(self._path) as stream:
                walk = self._indexed if files.exists(self._index) else self._scanned
                number = -1
                for number, (key, record) in enumerate(walk(stream, size)):
                    if record.problem:
                        location = refusal(self._path, record.problem)
                    else:
                        location = place(self._path, record.offset, record.length)
                    label = self._labels.of(record.label, "record", key)
                    yield Sample(key, number, label, location, record.length)
        if number < 0:
            raise SourceError(f"{self._path}: no record in it")

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`."""
        return self._labels.met()

    def _image(self, data: bytes) -> bytes:
        return self._behind_labels(data, _joined)

    def _start(self, data: bytes) -> bytes:
        return self._behind_labels(data, _first_part)

    def _behind_labels(self, data: bytes, payload_of: Callable[[bytes], bytes]) -> bytes:
        try:
            payload = payload_of(data)
            count = _HEADER.unpack_from(payload)[0]
        except struct.error as error:
            raise OSError("the record is damaged") from error
        return payload[_HEADER.size + _LABEL.size * count :]

    def _scanned(self, stream: BinaryIO, size: int) -> Iterator[tuple[str, _Record]]:
        offset = number = 0
        while offset < size:
            record = _measure(stream, offset, size)
            if not record.length:
                raise SourceError(
                    f"{self._path}: record {number} at byte {offset}: {record.problem}; with "
                    f"the index {self._index} beside it other records could be read"
                )
            yield str(number), record
            offset += record.length
            number += 1

    def _indexed(self, stream: BinaryIO, size: int) -> Iterator[tuple[str, _Record]]:
        with open_stream(self._index) as index:
            lines = iter(lambda: index.readline(_LONGEST_LINE), b"")
            for number, line in enumerate(lines, 1):
                key, _, offset = line.decode("ascii", "replace").strip().partition("\t")
                if not (key and key.isprintable() and offset.isdigit() and len(offset) < 19):
                    raise SourceError(f"{self._index}, line {number}: not KEY, tab, OFFSET")
                yield key, _measure(stream, int(offset), size)


def _measure(stream: BinaryIO, start: int, size: int) -> _Record:
    """Walk over the parts of one record, reading no more than its header."""
    prefix, total, at, part = b"", 0, start, _WHOLE
    wanted = _HEADER.size + _LABEL.size

    def bad(problem: str) -> _Record:
        return _Record(start, 0, nan, problem)

    first = True
    while first or part in (_FIRST, _MIDDLE):
        if at + 8 > size:
            return bad("the file ends within the record")
        stream.seek(at)
        head = stream.read(8)
        (word,) = _WORD.unpack_from(head, 4)
        part, length = word >> 29, word & _LENGTH
        if head[:4] != _MAGIC or part not in ((_WHOLE, _FIRST) if first else (_MIDDLE, _LAST)):
            return bad("it does not start as a record does" if first else "a part is missing")
        if at + 8 + length > size:
            return bad("the file ends within the record")
        if not first:
            prefix, total = prefix + _MAGIC, total + len(_MAGIC)
        if len(prefix) < wanted:
            prefix += stream.read(min(length, wanted - len(prefix)))
        total += length
        at += 8 + length + -length % 4
        first = False
    label, problem = _label(prefix, total)
    return _Record(start, min(at, size) - start, label, problem)


def _label(prefix: bytes, total: int) -> tuple[float, str]:
    """The first label of a payload of `total` bytes, and what is wrong with its header."""
    if total < _HEADER.size:
        return nan, "the record is shorter than its header"
    count, value, _, _ = _HEADER.unpack_from(prefix)
    if count:
        if total < _HEADER.size + _LABEL.size * count:
            return nan, f"the record is shorter than its {count} labels"
        (value,) = _LABEL.unpack_from(prefix, _HEADER.size)
    return value, ""


def _first_part(data: bytes) -> bytes:
    """The payload of a record's first part, as far as it is there."""
    (word,) = _WORD.unpack_from(data, 4)
    return data[8 : 8 + (word & _LENGTH)]


def _joined(data: bytes) -> bytes:
    """The payload of a record, its parts joined by the word that was left out."""
    parts, at, part = [], 0, _FIRST
    while part in (_FIRST, _MIDDLE):
        (word,) = _WORD.unpack_from(data, at + 4)
        part, length = word >> 29, word & _LENGTH
        if data[at : at + 4] != _MAGIC or at + 8 + length > len(data):
            raise OSError("the record is damaged")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length + -length % 4
    return _MAGIC.join(parts)
