"""MNIST's idx files: ``train-images-idx3-ubyte``, with the labels beside it, plain or ``.gz``.

Big-endian: two zeros, the type (8: unsigned byte), the number of dimensions, one 32-bit
size for each, then the bytes (yann.lecun.com/exdb/mnist, "The IDX file format").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, cast

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.pixels import Stack, require_stack
from shardcam.engine.readers.stack_reader import StackReader
from shardcam.engine.types import U1, Sample, counted

_IMAGES, _LABELS = 0x00000803, 0x00000801
_IMAGES_START, _LABELS_START = 16, 8
_LARGEST_PACKED = 1 << 30  # bytes of a .gz once unpacked: it is kept in memory
_STEP = 1 << 20


class IdxReader(StackReader):
    """The pictures of an idx file.

    Labels are those of the file whose name has ``labels-idx1`` for ``images-idx3``.
    """

    def read(self, sample: Sample) -> bytes | U1:
        if not _is_packed(self._path):
            return super().read(sample)
        _, start, end = self._part(sample)
        return self._image(self._unpacked[start:end])

    def read_many(self, samples: Sequence[Sample]) -> Iterator[bytes | U1 | OSError]:
        """See `engine.protocols.Reader`; what is packed is unpacked once, and kept."""
        many = Reader.read_many if _is_packed(self._path) else StackReader.read_many
        return many(self, samples)

    @cached_property
    def _layout(self) -> tuple[int, Stack]:
        counts = _header(self._path, _IMAGES, 3)
        stack = require_stack(self._path, counts, np.dtype(np.uint8))
        wanted = _IMAGES_START + stack.count * stack.picture_bytes
        if _is_packed(self._path) and wanted > _LARGEST_PACKED:
            raise SourceError(
                f"{self._path}: {wanted} bytes once unpacked; more than {_LARGEST_PACKED} must be "
                "unpacked first (gunzip)"
            )
        with listing(self._path):
            held = len(self._unpacked) if _is_packed(self._path) else files.size(self._path)
        if held != wanted:
            raise SourceError(
                f"{self._path}: {counts} pictures need {wanted} bytes; the file has {held}: is the "
                "copy complete?"
            )
        return _IMAGES_START, stack

    @cached_property
    def _unpacked(self) -> bytes:
        """The whole file, at most a byte more than what is allowed."""
        parts: list[bytes] = []
        held = 0
        with _opened(self._path) as stream:
            while step := stream.read(min(_STEP, _LARGEST_PACKED + 1 - held)):
                parts.append(step)
                held += len(step)
        return b"".join(parts)

    def _own_labels(self, count: int) -> Iterator[Any]:
        folder, slash, name = self._path.rpartition("/")
        beside = folder + slash + name.replace("images", "labels").replace("idx3", "idx1")
        with listing(beside):
            there = beside != self._path and files.exists(beside)
        return idx_labels(beside, count) if there else super()._own_labels(count)


def idx_labels(path: str, count: int) -> Iterator[int]:
    """The labels of an idx file, of `count` pictures.

    Raises
    ------
    SourceError
        They are more or fewer, or the file is damaged.
    """
    (held,) = _header(path, _LABELS, 1)
    if held != count:
        raise SourceError(
            f"{path}: {counted(held, 'label')} for {counted(count, 'picture')}; name another "
            "file with --label-data, or move it away"
        )
    with _opened(path) as stream:
        stream.seek(_LABELS_START)
        given = 0
        while step := stream.read(min(_STEP, count - given)):
            yield from step
            given += len(step)
    if given != count:
        raise SourceError(
            f"{path}: it ends after {given} of {counted(count, 'label')}: is the copy complete?"
        )


def _is_packed(path: str) -> bool:
    return path.lower().endswith(".gz")


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        with listing(path), open_stream(path) as stream:
            if not _is_packed(path):
                yield stream
                return
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast(BinaryIO, unpacked)
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{path}: damaged: {error}; copy it again") from error


def _header(path: str, magic: int, dimensions: int) -> tuple[int, ...]:
    length = 4 + 4 * dimensions
    with _opened(path) as stream:
        data = stream.read(length)
    if len(data) < length or struct.unpack_from(">I", data)[0] != magic:
        raise SourceError(f"{path}: not an IDX file of {dimensions} dimensions and unsigned bytes")
    return struct.unpack_from(f">{dimensions}I", data, 4)
