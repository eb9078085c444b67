"""From samples to the network's input, ahead of the network: read -> decode -> normalise.

Storage answers late and often, so a thread of its own reads and decodes while the network
computes. It is at most :data:`AHEAD` batches ahead in each of two shards.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from engine.imaging import UndecodableImage, luminance, view_of
from engine.protocols import Reader
from engine.targets import Targets
from engine.types import F4, U1, Failure, Preprocessing, Sample, Shard, View
from kernels import planar

AHEAD = 2  # batches
TOGETHER = 32  # samples, or one batch if that is more, that may be fetched together
Together = Callable[[Sequence[Sample]], AbstractContextManager[object]]


@dataclass(frozen=True)
class Batch:
    """A part of a shard, ready for the network."""

    listed: int  # samples of the shard that it accounts for
    samples: tuple[Sample, ...]  # those with a picture
    views: tuple[View, ...]
    images: F4  # (N,channels,H,W)
    failures: tuple[Failure, ...]
    seconds: dict[str, float]  # read: wall clock; decode: of the processor


@dataclass(frozen=True)
class Feed:
    """What is needed to make batches of a shard."""

    reader: Reader
    targets: Targets
    preprocessing: Preprocessing
    batch_size: int
    max_pixels: int
    fast_decode: bool = False  # decode JPEG files no larger than needed
    together: Together = nullcontext  # the next batches of a shard are read inside of it

    def batches(self, shard: Shard) -> Iterator[Batch]:
        """Cut a shard into batches; a sample that cannot be used becomes a failure."""
        lost = {failure.sample for failure in shard.lost}
        size = self.batch_size
        step = size * -(-TOGETHER // size)
        for first in range(0, len(shard.samples), step):
            some = shard.samples[first : first + step]
            with self.together([s for s in some if s.index not in lost]):
                for start in range(0, len(some), size):
                    samples = some[start : start + size]
                    yield self._batch(len(samples), [s for s in samples if s.index not in lost])

    def _batch(self, listed: int, samples: Sequence[Sample]) -> Batch:
        failures: list[Failure] = []
        begun = time.perf_counter()
        files = self._read(samples, failures)
        read, decoding = time.perf_counter() - begun, time.thread_time()
        pictures = self._decode(files, failures)
        views = tuple(view for _, view in pictures)
        images = network_input(views, self.preprocessing)
        seconds = {"read": read, "decode": time.thread_time() - decoding}
        having = tuple(sample for sample, _ in pictures)
        return Batch(listed, having, views, images, tuple(failures), seconds)

    def _read(
        self, samples: Sequence[Sample], failures: list[Failure]
    ) -> list[tuple[Sample, bytes | U1]]:
        files = []
        for sample in samples:
            reason = self.targets.refusal(sample)
            if reason is not None:
                failures.append(Failure(sample.key, sample.index, "target", "no target", reason))
                continue
            try:
                files.append((sample, self.reader.read(sample)))
            except OSError as error:
                message = error.strerror or str(error)
                failures.append(Failure(sample.key, sample.index, "read", "unreadable", message))
        return files

    def _decode(
        self, files: list[tuple[Sample, bytes | U1]], failures: list[Failure]
    ) -> list[tuple[Sample, View]]:
        pictures = []
        how = self.preprocessing, self.max_pixels, self.fast_decode
        for sample, data in files:
            try:
                pictures.append((sample, view_of(data, sample.box, *how)))
            except UndecodableImage as error:
                why = "decode", error.reason, str(error)
                failures.append(Failure(sample.key, sample.index, *why))
        return pictures


def network_input(views: Sequence[View], preprocessing: Preprocessing) -> F4:
    """Views (H,W,3) u1 -> (N,channels,H,W) f4, normalised; one channel is the luminance."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    images = np.empty((len(views), *preprocessing.input_shape), np.float32)
    for image, seen in zip(images, views, strict=True):
        if len(mean) == 1:
            image[0] = (luminance(seen.pixels) - mean) / std
        else:
            planar(seen.pixels, mean, std, image)
    return images


@dataclass
class _Stream:
    """The batches of one shard, from the thread that makes them to the one that takes them."""

    shard: Shard
    ready: deque[Batch] = field(default_factory=deque)
    ended: bool = False
    dropped: bool = False  # nobody will take them
    error: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def fill(self, batches: Callable[[Shard], Iterator[Batch]]) -> None:
        """Make every batch, never more than AHEAD before they are taken."""
        try:
            for batch in batches(self.shard):
                with self.changed:
                    self.changed.wait_for(lambda: self.dropped or len(self.ready) < AHEAD)
                    if self.dropped:
                        return
                    self.ready.append(batch)
                    self.changed.notify_all()
        except BaseException as error:  # the taker's to handle, whatever it is
            self.error = error
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def take(self) -> Iterator[Batch]:
        """Every batch, in order; raises what making them raised."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.ready or self.ended)
                if not self.ready:
                    break
                batch = self.ready.popleft()
                self.changed.notify_all()
            yield batch
        if self.error is not None:
            raise self.error

    def drop(self) -> None:
        """Let the maker go on to something else."""
        with self.changed:
            self.dropped = True
            self.changed.notify_all()


class ReadAhead:
    """Makes batches in a thread of its own, of this shard and then of the next."""

    def __init__(self, batches: Callable[[Shard], Iterator[Batch]]) -> None:
        self._batches = batches
        self._streams: deque[_Stream] = deque()
        self._wanted = threading.Semaphore(0)
        self._now: _Stream | None = None
        self._next: _Stream | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, shard: Shard, hint: Shard | None = None) -> Iterator[Batch]:
        """The batches of `shard`; those of `hint`, which is asked for next, are begun as well."""
        if self._now is not None:
            self._now.drop()  # whoever took it may have failed half-way
        if self._next is not None and self._next.shard == shard:
            self._now = self._next
        else:
            if self._next is not None:
                self._next.drop()
            self._now = self._begin(shard)
        self._next = None if hint is None else self._begin(hint)
        return self._now.take()

    def _begin(self, shard: Shard) -> _Stream:
        stream = _Stream(shard)
        self._streams.append(stream)
        self._wanted.release()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="reader", daemon=True)
            self._thread.start()
        return stream

    def _work(self) -> None:
        while True:
            self._wanted.acquire()
            self._streams.popleft().fill(self._batches)
