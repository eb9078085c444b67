"""JPEG files decoded and fitted by a GPU, into batches that stay there.

Only files that every decoder reads alike go there. Of all others, and of those that the decoder
gives up, each goes the CPU's way by itself (`engine.pictures`): whether a picture is too large,
damaged or turned is decided there, whatever is beside it in its batch.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Protocol

import numpy as np

from shardcam.engine.errors import bugs_named
from shardcam.engine.pictures.image_header import UndecodableImage, usual_jpeg
from shardcam.engine.pictures.imaging import fit_of, part_of, stacked
from shardcam.engine.pipeline.prefetch import ITS_OWN, BatchLoader, Read, Tried, groups
from shardcam.engine.types import NO_FLAG, U1, DeviceJpeg, Flag, Sample, View

_ELSEWHERE = np.empty((0, 0, 3), np.uint8)  # pixels that are not here yet


class DeviceBatch(Protocol):
    """Rows (H,W,3) RGB of a batch on a device; where U1 is written, a tensor will do."""

    def decode(self, files: Mapping[int, DeviceJpeg]) -> dict[int, bool]:
        """Decode files into rows.

        Of each that could be decoded: whether all of its values are alike, as
        `engine.pictures.imaging.SMALL_RANGE` says.
        """

    def put(self, views: Mapping[int, U1]) -> None:
        """Write rows that were decoded elsewhere."""

    def close(self, rows: Sequence[int]) -> tuple[U1, U1]:
        """Only these rows, once they are there: on the device, and as a NumPy array."""


class DeviceDecoder(Protocol):
    """What decodes on a device; see `engine.models.torch.jpeg_decoder`."""

    def begin(self, rows: int) -> DeviceBatch:
        """Make room for so many."""


@dataclass(frozen=True)
class DeviceDecoding:
    """Reads in the thread that asks, and has pictures decoded; see `engine.pipeline.prefetch`.

    Parameters
    ----------
    loader
        Reads, and decodes what is left to the CPU.
    decoder
        Decodes all else.
    """

    loader: BatchLoader
    decoder: DeviceDecoder

    @property
    def count(self) -> int:
        """How many work at a time."""
        return 1

    def load(self, batches: Iterable[Sequence[Sample]]) -> Generator[Tried, None, None]:
        """What becomes of the samples of some batches, in order."""
        for samples in filter(None, batches):
            yield from self._tried(samples)

    def _tried(self, samples: Sequence[Sample]) -> Iterator[Tried]:
        batch, tried = self.decoder.begin(len(samples)), list[Tried]()
        for group in groups(samples, len(samples)):
            with bugs_named(group):
                tried += self._group(group, batch, len(tried))
        rows = [row for row, one in enumerate(tried) if isinstance(one.found, View)]
        images, pixels = batch.close(rows)
        if not self.loader.preprocessing.takes_rgb:
            images = stacked(list(pixels), self.loader.preprocessing)
        seen = iter(pixels)
        for one in tried:
            if isinstance(one.found, View):
                one = replace(one, found=replace(one.found, pixels=next(seen)))
            yield replace(one, images=images)

    def _group(self, samples: Sequence[Sample], batch: DeviceBatch, first: int) -> Iterator[Tried]:
        """Of samples that are held at once, whose rows begin with the `first`."""
        reads = dict(enumerate(self.loader.read(samples, repeat(ITS_OWN)), first))
        begun = time.perf_counter()
        files = {row: file for row, read in reads.items() if (file := self._file(read))}
        small = batch.decode(files) if files else {}
        others = {row: read for row, read in reads.items() if row not in small}
        by_cpu = self.loader.decoders.map(self.loader.decoded, others.values())
        found = {row: one.found for row, one in zip(others, by_cpu, strict=True)}
        batch.put({row: view.pixels for row, view in found.items() if isinstance(view, View)})
        for row, alike in small.items():
            flags = Flag.SMALL_RANGE if alike else NO_FLAG
            found[row] = View(_ELSEWHERE, files[row].size, files[row].fit.crop, flags)
        took = (time.perf_counter() - begun) / len(reads)
        for row, read in reads.items():
            yield Tried(read.sample, None, found[row], read.seconds, took)

    def _file(self, read: Read) -> DeviceJpeg | None:
        """What the device decodes; None: it is left to the CPU."""
        data, box = read.data, read.sample.box
        header = usual_jpeg(data) if isinstance(data, bytes) else None
        if header is None or header.width * header.height > self.loader.decoding.max_pixels:
            return None
        size = header.image_size
        try:
            part = (0, 0, *size) if box is None else part_of(size, box)
        except UndecodableImage:
            return None
        assert isinstance(data, bytes)
        return DeviceJpeg(data, size, part, fit_of(part, self.loader.preprocessing))
