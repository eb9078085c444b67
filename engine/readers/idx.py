"""MNIST's idx files: ``train-images-idx3-ubyte``, with the labels beside it, plain or ``.gz``.

Big-endian: two zeros, the type (8: unsigned byte), the number of dimensions, one 32-bit
size for each, then the bytes (yann.lecun.com/exdb/mnist, "The IDX file format").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import repeat
from typing import Any, BinaryIO, cast

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.labels import LabelData, Labels, Names
from shardcam.engine.readers.location import listing, place
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.pixels import Stack, picture_of, require_stack
from shardcam.engine.types import NO_LABEL, U1, Sample, SourceNotes, counted

_IMAGES, _LABELS = 0x00000803, 0x00000801
_IMAGES_START, _LABELS_START = 16, 8
_LARGEST_PACKED = 1 << 30  # bytes of a .gz once unpacked: it is kept in memory
_STEP = 1 << 20


class IdxReader(PartReader):
    """The pictures of an idx file; the key is the picture's number.

    Labels are those of the file whose name has ``labels-idx1`` for ``images-idx3``.

    Parameters
    ----------
    path
        The file with the images, a path or a URL.
    cache
        See `engine.readers.part_reader.PartReader`.
    label_data
        Gives the labels; None: those of the file beside the pictures.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        path: str,
        cache: PartCache | None = None,
        label_data: LabelData | None = None,
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._path = path
        self._label_data = label_data
        self._labels = Labels(names)

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        stack, length = self._stack, self._stack.picture_bytes
        for index, value in enumerate(self._values(stack.count)):
            label = self._labels.of(value, "picture", index)
            location = place(self._path, _IMAGES_START + index * length, length)
            yield Sample(stack.key(index), index, label, location, length)

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`."""
        return self._labels.met()

    def read(self, sample: Sample) -> bytes | U1:
        if not _is_packed(self._path):
            return super().read(sample)
        _, start, end = self._part(sample)
        return self._image(self._unpacked[start:end])

    def read_many(self, samples: Sequence[Sample]) -> Iterator[bytes | U1 | OSError]:
        """See `engine.protocols.Reader`; what is packed is unpacked once, and kept."""
        many = Reader.read_many if _is_packed(self._path) else PartReader.read_many
        return many(self, samples)

    def _part(self, sample: Sample) -> Part:
        try:
            _ = self._stack
        except SourceError as error:  # it was good when it was listed
            raise OSError(str(error)) from error
        _, start, end = super()._part(sample)
        return self._path, start, end  # any bytes would do for pixels: those of no other file

    def read_start(self, sample: Sample, length: int) -> bytes | U1:
        return self.read(sample)

    def _image(self, data: bytes) -> U1:
        return picture_of(data, self._stack)

    @cached_property
    def _stack(self) -> Stack:
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
        return stack

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

    def _values(self, count: int) -> Iterator[Any]:
        """What is said of each picture."""
        if self._label_data is not None:
            return self._label_data(count)
        folder, slash, name = self._path.rpartition("/")
        beside = folder + slash + name.replace("images", "labels").replace("idx3", "idx1")
        with listing(beside):
            there = beside != self._path and files.exists(beside)
        return idx_labels(beside, count) if there else repeat(NO_LABEL, count)


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
