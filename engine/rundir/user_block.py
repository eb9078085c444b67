"""A checksum of a whole file, in the user block in front of it, which HDF5 skips.

HDF5's own checksums cover the chunks and most of the metadata, but not the lists of chunks, nor
what lies between. The block is text (``head -3 FILE``) and follows from the bytes behind it: a
bit that is changed in either of them makes them differ.
"""

from __future__ import annotations

import io

from isal import isal_zlib

SIZE = 512  # bytes; the least that HDF5 allows
_HDF5 = b"\x89HDF\r\n\x1a\n"
_READ = 1 << 18  # bytes at a time: they stay in the processor's cache


def write_user_block(stream: io.RawIOBase) -> None:
    """Fill the user block of an HDF5 file that is complete; for 64 MB in the page cache in 9 ms."""
    stream.seek(SIZE)
    block = _user_block(stream)
    stream.seek(0)
    stream.write(block)


def checksum_problem(stream: io.RawIOBase) -> str | None:
    """Say what is wrong with a file, all of which is read, or None.

    A file of an earlier version, which has no user block, has nothing to say.
    """
    stream.seek(0)
    found = stream.read(SIZE)
    if found is not None and found.startswith(_HDF5):
        return None
    return None if found == _user_block(stream) else "damaged: its file checksum does not match"


def _user_block(stream: io.RawIOBase) -> bytes:
    """The user block for the remaining bytes of a stream."""
    length = checksum = 0
    buffer = memoryview(bytearray(_READ))
    while count := stream.readinto(buffer):
        length += count
        checksum = isal_zlib.crc32(buffer[:count], checksum)
    text = (
        f"shardcam: HDF5 begins at byte {SIZE}\n"
        f"bytes from there on: {length}\n"
        f"their CRC-32, as in zlib: {checksum:08x}\n"
    )
    return text.encode().ljust(SIZE, b"\0")
