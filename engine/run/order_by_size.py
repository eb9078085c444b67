"""A listing in the order of the pictures' sizes, so that pictures of one size are neighbours.

Sizes are read from the headers of the files. What a header says decides the order and nothing
else: where it is wrong, as a damaged file's may be, batches are less full.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from shardcam.engine.pictures.image_header import UndecodableImage, header_of
from shardcam.engine.pictures.imaging import part_of
from shardcam.engine.protocols import Reader
from shardcam.engine.types import Sample, Sizes

Size = tuple[int, int]  # height, width

START = 1 << 16  # bytes of a file, in which nearly every header ends
THREADS = 32  # storage answers late
WAITING = 8 * THREADS  # headers that are asked for at a time
UNKNOWN = (0, 0)  # of what has no readable header: it comes first, and fails when it is decoded


def by_size(
    samples: Iterable[Sample], reader: Reader, measured: Callable[[int], None]
) -> tuple[list[Sample], Sizes]:
    """Samples by the height and then the width of what is looked at, else in their order.

    All of them are held in memory.

    Parameters
    ----------
    measured
        Is called with the number of sizes known so far, after each.
    """
    found: list[tuple[Size, Sample]] = []
    sizes: Counter[Size] = Counter()
    for sample, size in _sizes(samples, reader):
        found.append((size, sample))
        sizes[size] += 1
        measured(len(found))
    found.sort(key=lambda one: one[0])
    del sizes[UNKNOWN]
    largest = max(sizes, key=lambda size: (size[0] * size[1], size), default=UNKNOWN)
    pixels = sum(height * width * count for (height, width), count in sizes.items())
    ordered = [replace(sample, index=i) for i, (_, sample) in enumerate(found)]
    return ordered, Sizes(len(sizes), largest, pixels)


def _sizes(samples: Iterable[Sample], reader: Reader) -> Iterator[tuple[Sample, Size]]:
    """Each sample and its size, in order."""
    one_for_all: list[Size] = []  # of pictures in an array

    def measure(sample: Sample) -> Size:
        if one_for_all:
            return one_for_all[0]
        size, is_array = _size(sample, reader)
        if is_array:
            one_for_all.append(size)
        return size

    with ThreadPoolExecutor(THREADS, "headers") as pool:
        begun: deque[tuple[Sample, Future[Size]]] = deque()
        for sample in samples:
            begun.append((sample, pool.submit(measure, sample)))
            if len(begun) == WAITING:
                first, size = begun.popleft()
                yield first, size.result()
        for first, size in begun:
            yield first, size.result()


def _size(sample: Sample, reader: Reader) -> tuple[Size, bool]:
    """Of what is looked at of a picture, and whether it is one of an array."""
    try:
        data = reader.read_start(sample, START)
        if isinstance(data, np.ndarray):
            return (data.shape[0], data.shape[1]), True
        try:
            size = header_of(data).image_size
        except UndecodableImage:
            if len(data) < START // 2:  # that was all of it
                raise
            whole = reader.read(sample)
            size = header_of(whole).image_size if isinstance(whole, bytes) else UNKNOWN
        if sample.box is None:
            return size, False
        top, left, bottom, right = part_of(size, sample.box)
        return (bottom - top, right - left), False
    except (OSError, UndecodableImage):
        return UNKNOWN, False
