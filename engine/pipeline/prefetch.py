"""From samples to the network's input, ahead of the network: read -> decode.

Storage answers late and often, so a thread of its own reads while the network computes, and
decodes, or has others decode. It is at most `AHEAD` batches ahead in each of two shards.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Protocol

from shardcam.engine.errors import bugs_named
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import put, room_for, view_of
from shardcam.engine.pipeline.decoder_threads import Decoders, decoders
from shardcam.engine.pipeline.targets import Targets
from shardcam.engine.protocols import Reader
from shardcam.engine.types import U1, Decoding, Failure, Preprocessing, Sample, Shard, View

Place = tuple[U1 | None, int]

AHEAD = 2  # batches
ITS_OWN: Place = (None, 0)
TOGETHER = 32  # samples, or one batch if that is more, that may be fetched at once
BYTES_TOGETHER = 64 << 20  # of those, where the listing knows their sizes


@dataclass(frozen=True)
class Batch:
    """A part of a shard, ready for the network."""

    listed: int  # samples of the shard that it accounts for
    samples: tuple[Sample, ...]  # those with a picture
    views: tuple[View, ...]
    images: U1  # (N,H,W,channels); of pictures at their own size none: the views have them
    failures: tuple[Failure, ...]
    seconds: dict[str, float]  # read: wall clock; decode: of the processor, by thread
    room: int = 0  # images that it could have, at their own size


@dataclass(frozen=True)
class Read:
    """What a reader returned for a sample, and the seconds it took."""

    sample: Sample
    images: U1 | None  # of its batch, if they have one size
    row: int  # of these
    data: bytes | U1 | Failure
    seconds: float


@dataclass(frozen=True)
class Tried:
    """A sample's view or failure, and the seconds it took."""

    sample: Sample
    images: U1 | None  # of its batch, if they have one size
    found: View | Failure
    read: float
    decode: float


class Others(Protocol):
    """Others that decode: `engine.workers.decoder_processes`, `engine.pipeline.device_decoding`."""

    @property
    def count(self) -> int:
        """How many work at a time."""

    def load(self, batches: Iterable[Sequence[Sample]]) -> Generator[Tried, None, None]:
        """Begin with samples of some batches, when those of earlier calls are begun."""


@dataclass(frozen=True)
class BatchLoader:
    """Makes the batches of a shard: reads, decodes, and stacks what the network is given."""

    reader: Reader
    targets: Targets
    preprocessing: Preprocessing
    batch_size: int
    decoding: Decoding
    decoders: Decoders = field(default_factory=decoders)
    others: Others | None = None  # that read and decode in place of this one

    def batches(self, shard: Shard) -> Generator[Batch, None, None]:
        """Cut a shard into batches; a sample that cannot be used becomes a failure.

        Processes begin when this is called, after what they were asked for before.
        """
        load = self._load if self.others is None else self.others.load
        return self._cut(shard, load(self._wanted(shard)))

    def _cut(
        self, shard: Shard, load: Generator[Tried, None, None]
    ) -> Generator[Batch, None, None]:
        with closing(load):
            for listed, wanted in zip(self._listed(shard), self._wanted(shard), strict=True):
                yield self._batch(len(listed), list(islice(load, len(wanted))))

    def _listed(self, shard: Shard) -> Iterator[Sequence[Sample]]:
        """The samples of each batch."""
        for first in range(0, len(shard.samples), self.batch_size):
            yield shard.samples[first : first + self.batch_size]

    def _wanted(self, shard: Shard) -> Iterator[list[Sample]]:
        """Those of each batch that are not given up."""
        given_up = {failure.sample for failure in shard.given_up}
        for samples in self._listed(shard):
            yield [sample for sample in samples if sample.index not in given_up]

    def _batch(self, listed: int, tried: Sequence[Tried]) -> Batch:
        begun = time.thread_time()
        rows = [row for row, one in enumerate(tried) if isinstance(one.found, View)]
        images = tried[0].images if rows else None
        if images is None:
            images = room_for(0, self.preprocessing)
        others = self.others
        seconds = {
            "read": sum(one.read for one in tried) / (others.count if others else 1),
            "decode": sum(one.decode for one in tried)
            / (others.count if others else self.decoders.threads)
            + (time.thread_time() - begun),
        }
        return Batch(
            listed,
            tuple(tried[row].sample for row in rows),
            tuple(one.found for one in tried if isinstance(one.found, View)),
            images[rows] if 0 < len(rows) < len(images) else images,
            tuple(one.found for one in tried if isinstance(one.found, Failure)),
            seconds,
        )

    def _load(self, batches: Iterable[Sequence[Sample]]) -> Generator[Tried, None, None]:
        wanted = list(batches)
        yield from self.tried(chain(*wanted), self._places(wanted))

    def tried(
        self, samples: Iterable[Sample], places: Iterator[Place]
    ) -> Generator[Tried, None, None]:
        """Read and decode, sample by sample: a file need not be held once it is decoded.

        Places say where each view goes: the images of its batch, and the row; `ITS_OWN`: nowhere.
        """
        for group in groups(samples, self.batch_size * -(-TOGETHER // self.batch_size)):
            yield from self.decoders.map(self.decoded, self.read(group, places))

    def _places(self, batches: Sequence[Sequence[Sample]]) -> Iterator[Place]:
        for samples in batches:
            images = room_for(len(samples), self.preprocessing)
            yield from ((images, row) for row in range(len(samples)))

    def read(self, samples: Sequence[Sample], places: Iterator[Place]) -> Iterator[Read]:
        """Read those that have a target; each gets one of the places."""
        refused = {s.index: refusal for s in samples if (refusal := self._refusal(s))}
        found = self.reader.read_many([s for s in samples if s.index not in refused])
        for sample in samples:
            begun = time.perf_counter()
            with bugs_named((sample,)):
                data = refused.get(sample.index) or next(found)
            if isinstance(data, OSError):
                message = data.strerror or str(data)
                data = Failure(sample.key, sample.index, "read", "unreadable", message)
            yield Read(sample, *next(places), data, time.perf_counter() - begun)

    def _refusal(self, sample: Sample) -> Failure | None:
        reason = self.targets.refusal(sample)
        if reason is None:
            return None
        return Failure(sample.key, sample.index, "target", "no target", reason)

    def decoded(self, read: Read) -> Tried:
        """Decode what was read, and put the view in its place."""
        begun = time.thread_time()
        with bugs_named((read.sample,)):
            found = self._view(read.sample, read.data)
            if isinstance(found, View) and read.images is not None:
                found = self._placed(found, read.images[read.row])
        return Tried(read.sample, read.images, found, read.seconds, time.thread_time() - begun)

    def _view(self, sample: Sample, data: bytes | U1 | Failure) -> View | Failure:
        if isinstance(data, Failure):
            return data
        try:
            return view_of(data, sample.box, self.preprocessing, self.decoding)
        except UndecodableImage as error:
            return Failure(sample.key, sample.index, "decode", error.reason, str(error))

    def _placed(self, view: View, place: U1) -> View:
        """Its pixels are at `place` as the network takes them, and not twice if these are RGB."""
        put(view.pixels, self.preprocessing, place)
        is_rgb = place.shape == view.pixels.shape and self.preprocessing.channels == "rgb"
        return replace(view, pixels=place) if is_rgb else view


def groups(samples: Iterable[Sample], most: int) -> Iterator[list[Sample]]:
    """Groups of samples that may be fetched at once: not too many, nor too large."""
    group: list[Sample] = []
    held = 0
    for sample in samples:
        size = max(sample.size, 0)
        if group and (len(group) == most or held + size > BYTES_TOGETHER):
            yield group
            group, held = [], 0
        group.append(sample)
        held += size
    if group:
        yield group


@dataclass
class _Stream:
    """The batches of one shard, from the thread that makes them to the one that takes them."""

    shard: Shard
    batches: Generator[Batch, None, None]
    ready: deque[Batch] = field(default_factory=deque)
    ended: bool = False
    dropped: bool = False  # no one will take them
    error: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def fill(self) -> None:
        """Make every batch, never more than AHEAD before they are taken."""
        try:
            with closing(self.batches):
                for batch in self.batches:
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
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.ready or self.ended)
                    if not self.ready:
                        break
                    batch = self.ready.popleft()
                    self.changed.notify_all()
                yield batch
        finally:
            self.drop()
        if self.error is not None:
            raise self.error

    def first(self) -> Batch | None:
        """The batch that is taken next, if it is made."""
        with self.changed:
            return self.ready[0] if self.ready else None

    def drop(self) -> None:
        """Let the thread go on to something else."""
        with self.changed:
            self.dropped = True
            self.changed.notify_all()


class Prefetcher:
    """Makes batches in its own thread, of this shard and then of the next."""

    def __init__(self, make: Callable[[Shard], Generator[Batch, None, None]]) -> None:
        self._make = make
        self._streams: deque[_Stream] = deque()
        self._lock = threading.Lock()
        self._now: _Stream | None = None
        self._next: _Stream | None = None
        self._thread: threading.Thread | None = None

    def batches(self, shard: Shard, next_shard: Shard | None = None) -> Iterator[Batch]:
        """The batches of `shard`; those of `next_shard` are begun as well."""
        if self._now is not None:
            self._now.drop()  # its consumer may have failed half-way
        if self._next is not None and self._next.shard == shard:
            self._now = self._next
        else:
            if self._next is not None:
                self._next.drop()
            self._now = self._begin(shard)
        self._next = None if next_shard is None else self._begin(next_shard)
        return self._taken(self._now)

    def first_of_next(self) -> Batch | None:
        """The first batch of the next shard, if it is made."""
        return None if self._next is None else self._next.first()

    def _taken(self, stream: _Stream) -> Iterator[Batch]:
        """What it gives; the next shard is left, too, if nobody takes all of this one."""
        try:
            yield from stream.take()
        except BaseException:
            if self._now is stream and self._next is not None:
                self._next.drop()
                self._next = None
            raise

    def _begin(self, shard: Shard) -> _Stream:
        stream = _Stream(shard, self._make(shard))
        with self._lock:
            self._streams.append(stream)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="reader", daemon=True)
                self._thread.start()
        return stream

    def _work(self) -> None:
        """Until there is nothing to make: after a run no thread is left behind."""
        while True:
            with self._lock:
                if not self._streams:
                    self._thread = None
                    return
                stream = self._streams.popleft()
            stream.fill()
