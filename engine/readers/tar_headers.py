"""The headers of a tar archive: POSIX ustar and pax, and GNU's long names.

Blocks of 512 bytes: a header, then the member's bytes filled up to whole blocks; two
blocks of zeros end the archive (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar
manual, "Basic Tar Format"). Links are not followed, and no member is read but those that
hold a long name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.location import key_text

_BLOCK = 512
_LONGEST = 1 << 20  # bytes of a pax header or a long name
_FILES = b"0\x007"
_WITHOUT_DATA = b"123456"
_NO_FILE = {
    b"1": "a link in the archive; links are not followed",
    b"2": "a link in the archive; links are not followed",
    b"3": "a device, not a file",
    b"4": "a device, not a file",
    b"6": "a pipe, not a file",
    b"S": "a sparse member; write the archive without --sparse",
}


@dataclass(frozen=True)
class Member:
    """A member of an archive that is not a folder."""

    name: str
    offset: int
    size: int
    problem: str = ""  # why it cannot be read, if so


@dataclass
class _Next:
    """What extension headers say about the member that follows."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False


def members(path: str, stream: BinaryIO, size: int) -> Iterator[Member]:
    """Every member but folders, in order.

    Raises
    ------
    SourceError
        A header is damaged, or the archive ends within a member.
    """
    at, coming = 0, _Next()
    while at < size:
        stream.seek(at)
        block = stream.read(_BLOCK)
        if not any(block):
            return
        try:
            name, length = _checked(block)
            kind = block[156:157]
            at += _BLOCK
            if kind in (b"L", b"K", b"x", b"g"):
                _extend(coming, kind, stream, at, min(length, size - at))
                at += _padded(length)
                continue
            length = length if coming.size is None else coming.size
        except ValueError as error:
            raise SourceError(
                f"{path}: no tar header at byte {at}: {error}; is the copy complete, and not "
                "compressed?"
            ) from None
        if kind == b"S":
            at = _after_sparse_map(block, stream, at, size)
        text = (coming.name or name).decode("utf-8", "surrogateescape")
        member = Member(text, at, length, _problem(text, kind, coming.sparse))
        if kind not in _WITHOUT_DATA:
            if at + length > size:
                raise SourceError(
                    f"{path}: member {key_text(text)!r} at byte {at}: the archive ends within it; "
                    "is the copy complete?"
                )
            at += _padded(length)
        if kind != b"5" and not (text.endswith("/") and not length):
            yield member
        coming = _Next()


def _checked(block: bytes) -> tuple[bytes, int]:
    """Name and size of a header whose checksum is right."""
    if len(block) < _BLOCK:
        raise ValueError("the file ends within it")
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("its checksum is wrong")
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and prefix:  # GNU's has other things there
        name = prefix + b"/" + name
    return name, _number(block[124:136])


def _number(field: bytes) -> int:
    """Octal digits, or base 256 after a first bit of 1."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise ValueError("a number in it is damaged")
    return int(digits or b"0", 8)


def _padded(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _extend(coming: _Next, kind: bytes, stream: BinaryIO, at: int, length: int) -> None:
    """Read an extension header; those of all members (g) and of links (K) say nothing we use."""
    if kind in (b"g", b"K"):
        return
    if length > _LONGEST:
        raise ValueError(f"an extension of {length} bytes")
    stream.seek(at)
    data = stream.read(length)
    if kind == b"L":
        coming.name = data.partition(b"\0")[0]
        return
    for key, value in _pax(data):
        if key == b"path":
            coming.name = value
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise ValueError("a size in it is damaged")
            coming.size = int(value)
        elif key.startswith(b"GNU.sparse."):
            coming.sparse = True


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Records ``LENGTH KEY=VALUE\\n``; the length counts the whole record."""
    at = 0
    while at < len(data) and data[at]:
        digits, space, _ = data[at : at + 20].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 1 < int(digits) <= len(data) - at:
            raise ValueError("a pax record is damaged")
        end = at + int(digits)
        key, _, value = data[at + len(digits) + 1 : end].rstrip(b"\n").partition(b"=")
        yield key, value
        at = end


def _after_sparse_map(block: bytes, stream: BinaryIO, at: int, size: int) -> int:
    """Where the data of an old GNU sparse member begins: its map may go on in more blocks."""
    more = block[482]
    while more and at < size:
        stream.seek(at)
        extension = stream.read(_BLOCK)
        more = extension[504] if len(extension) == _BLOCK else 0
        at += _BLOCK
    return at


def _problem(name: str, kind: bytes, sparse: bool) -> str:
    if sparse:
        return _NO_FILE[b"S"]
    if kind not in _FILES:
        return _NO_FILE.get(kind, "a member of an unknown type")
    if name.startswith("/") or ".." in name.split("/"):
        return "its name points outside of the archive"
    return ""
