"""Reading and decoding in several processes, which put pictures where the batch is.

Threads that decode share the interpreter's lock with what feeds a GPU. Of processes this one sees
nothing but a short answer for several pictures at once: the pixels are in memory that all share.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from multiprocessing.connection import Connection
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from typing import Any

import numpy as np

from shardcam.engine.errors import InternalError, ShardcamError, WorkerError, bugs_named
from shardcam.engine.pipeline.prefetch import BatchLoader, Tried
from shardcam.engine.types import U1, Failure, Flag, Preprocessing, Sample, View
from shardcam.engine.workers.child_process import ChildProcess
from shardcam.engine.workers.threads import limit_threads

TOGETHER = 16  # pictures that a process is given at once
WAITING = 2  # of such parts: one that it works on, and the next
BEGUN = 2 * WAITING  # parts for each process: a picture that takes long holds up no other process
CRASHES = 2  # of a process over one picture, after which that is given up
LOSSES = 12  # of processes without an answer between: it is not the pictures
STARTS = 2  # of these, in which a process died before it was ready
BEHIND = 5  # niceness added: where cores are short, what feeds the GPU goes first

Lock = Callable[[U1], Callable[[], None]]
_Found = tuple[Failure | tuple[Any, ...], float, float]  # see `_answer`


@dataclass(frozen=True)
class _Room:
    """Where a batch goes, in this process and in others."""

    images: U1  # (N,H,W,channels)
    seen: U1  # (N,H,W,3) RGB; the same memory where the network takes that

    @classmethod
    def of(cls, memory: U1, count: int, preprocessing: Preprocessing) -> _Room:
        channels, height, width = preprocessing.input_shape
        shape, rgb = (count, height, width, channels), (count, height, width, 3)
        images = memory[: prod(shape)].reshape(shape)
        if preprocessing.takes_rgb:
            return cls(images, images)
        return cls(images, memory[prod(shape) : prod(shape) + prod(rgb)].reshape(rgb))

    @staticmethod
    def size(count: int, preprocessing: Preprocessing) -> int:
        """Bytes."""
        channels, height, width = preprocessing.input_shape
        return count * height * width * (channels + (0 if preprocessing.takes_rgb else 3))


class _SharedMemory:
    """Pieces of one size, in a file without a name: it is gone with the last process that has it.

    Parameters
    ----------
    size
        Bytes of a piece, at least.
    file
        Descriptor of the file; None: a new one.
    lock
        Called with each piece, once, before it is used; its result undoes that.
    """

    def __init__(self, size: int, file: int | None = None, lock: Lock | None = None) -> None:
        page = mmap.ALLOCATIONGRANULARITY
        self.size = -(-size // page) * page
        self.file = os.memfd_create("shardcam") if file is None else file
        self._pieces: dict[int, mmap.mmap] = {}
        self._free: deque[int] = deque()
        self._lock, self._unlock = lock, list[Callable[[], None]]()

    def take(self) -> tuple[int, U1]:
        """A piece that is free, and its number; it is free again when no array refers to it."""
        try:
            if not self._free:
                os.ftruncate(self.file, (len(self._pieces) + 1) * self.size)
                self._free.append(len(self._pieces))
            number = self._free.popleft()
            memory = self.piece(number)
        except OSError as error:
            raise WorkerError(
                f"no memory to share with decoder processes: {error.strerror}; a smaller "
                "--batch-size takes less, --decode-processes 0 decodes in the worker"
            ) from error
        weakref.finalize(memory, self._free.append, number).atexit = False
        return number, memory

    def piece(self, number: int) -> U1:
        if number not in self._pieces:
            where = number * self.size
            self._pieces[number] = mmap.mmap(self.file, self.size, offset=where)
            if self._lock is not None:
                self._unlock.append(self._lock(np.frombuffer(self._pieces[number], np.uint8)))
        return np.frombuffer(self._pieces[number], np.uint8)

    def close(self) -> None:
        """Only arrays that are in use refer to it from now on."""
        while self._unlock:
            self._unlock.pop()()
        os.close(self.file)


@dataclass(eq=False)
class _Part:
    """Some samples of a batch, and what became of each."""

    samples: Sequence[Sample]
    room: _Room
    number: int  # of the room's memory
    count: int  # samples of the batch
    first: int  # of its rows
    found: list[_Found | None]


@dataclass
class _Task:
    """Samples of a part: all of them, or one that may end its process."""

    part: _Part
    start: int
    stop: int
    crashes: int = 0

    @property
    def order(self) -> tuple[Any, ...]:
        part = self.part
        samples = part.samples[self.start : self.stop]
        return part.number, part.count, part.first + self.start, samples


class _Decoder:
    """A process, and what it was given: it answers in that order."""

    def __init__(self, build: Callable[[], BatchLoader], memory: _SharedMemory) -> None:
        self.process = ChildProcess(serve, (memory.file,))
        self.tasks: deque[_Task] = deque()
        self.ready = False
        with suppress(OSError):  # it died: that shows where its answer is read
            self.process.pipe.send((memory.file, memory.size))
            self.process.pipe.send(build)

    def give(self, task: _Task) -> None:
        self.tasks.append(task)
        with suppress(OSError):
            self.process.pipe.send(task.order)


class DecoderProcesses:
    """Processes that read and decode the pictures of shards.

    They end with this object, and with this process, whatever ends it.

    Parameters
    ----------
    count
        How many.
    build
        Makes what reads and decodes, in each of them. It travels by name, so it must be importable.
    preprocessing, batch_size
        Of the loader.
    lock
        Prepares the memory for a device that reads it; its result undoes that.
    """

    def __init__(
        self,
        count: int,
        build: Callable[[], BatchLoader],
        preprocessing: Preprocessing,
        batch_size: int,
        lock: Lock | None = None,
    ) -> None:
        self.count = count
        self._build, self._preprocessing = build, preprocessing
        self._memory = _SharedMemory(_Room.size(batch_size, preprocessing), lock=lock)
        self._decoders: list[_Decoder] = []
        self._selector = DefaultSelector()
        self._loads: deque[_Load] = deque()
        self._waiting: deque[_Task] = deque()  # begun, and no process has room for them
        self.begun = 0  # parts that nobody took yet
        self._losses = 0  # processes since the last answer
        weakref.finalize(self, _end, self._decoders, self._selector, self._memory)
        for _ in range(count):
            self._add()

    def load(self, batches: Iterable[Sequence[Sample]]) -> Generator[Tried, None, None]:
        """Begin with the samples of some batches, when those of earlier calls are begun.

        What became of each is given in order. Only one thread may take what is given.
        """
        load = _Load(self, self._parts(batches))
        self._loads.append(load)
        return load.taken()

    def _parts(self, batches: Iterable[Sequence[Sample]]) -> Iterator[_Part]:
        for samples in batches:
            if not samples:
                continue
            number, memory = self._memory.take()
            room = _Room.of(memory, len(samples), self._preprocessing)
            del memory
            for first in range(0, len(samples), TOGETHER):
                some = samples[first : first + TOGETHER]
                yield _Part(some, room, number, len(samples), first, [None] * len(some))

    def begin(self, load: _Load) -> bool:
        """Begin the next part of a load, if it has one."""
        part = next(load.parts, None)
        if part is not None:
            load.begun.append(part)
            self.begun += 1
            self._waiting.append(_Task(part, 0, len(part.samples)))
        elif load in self._loads:
            self._loads.remove(load)
        return part is not None

    def hand_out(self) -> None:
        """Give processes what they have room for."""
        while self._loads and self.begun < BEGUN * self.count:
            self.begin(self._loads[0])
        while self._waiting:
            decoder = min(self._decoders, key=lambda one: len(one.tasks))
            if len(decoder.tasks) >= WAITING:
                return
            decoder.give(self._waiting.popleft())

    def wait(self) -> None:
        """Wait for answers, and give those who answered more to do."""
        for key, _ in self._selector.select():
            decoder: _Decoder = key.data
            try:
                found = decoder.process.pipe.recv()
            except (EOFError, OSError):
                self._replace(decoder)
                continue
            if found is None:
                decoder.ready = True
                continue
            task = decoder.tasks.popleft() if decoder.ready else None
            if isinstance(found, Exception):
                raise found
            assert task is not None
            self._losses = 0
            task.part.found[task.start : task.stop] = found
        self.hand_out()

    def drop(self, load: _Load) -> None:
        """Of a load that nobody takes any more."""
        if load in self._loads:
            self._loads.remove(load)
        mine = {id(part) for part in load.begun}
        self._waiting = deque(task for task in self._waiting if id(task.part) not in mine)
        self.begun -= len(load.begun)
        load.begun.clear()

    def _add(self) -> None:
        decoder = _Decoder(self._build, self._memory)
        self._decoders.append(decoder)
        self._selector.register(decoder.process.pipe, EVENT_READ, decoder)

    def _replace(self, lost: _Decoder) -> None:
        """What it worked on is tried again picture by picture, and again if there is one only."""
        self._selector.unregister(lost.process.pipe)
        reason = lost.process.end()
        self._decoders.remove(lost)
        self._losses += 1
        if self._losses > (LOSSES if lost.ready else STARTS):
            raise WorkerError(
                f"a decoder process {reason}, and it is not the images: look at memory, and at "
                "shardcam doctor; --decode-processes 0 decodes in the worker"
            )
        self._add()
        if not (lost.ready and lost.tasks):
            self._waiting.extendleft(reversed(lost.tasks))
            return
        suspect, *others = lost.tasks
        self._waiting.extendleft(reversed(others))
        alone = suspect.stop - suspect.start == 1
        crashes = suspect.crashes + alone
        if crashes < CRASHES:
            rows = range(suspect.start, suspect.stop)
            again = [_Task(suspect.part, row, row + 1, crashes) for row in rows]
            self._waiting.extendleft(reversed(again))
            return
        sample = suspect.part.samples[suspect.start]
        failure = Failure(sample.key, sample.index, "worker", "worker crashed", reason)
        suspect.part.found[suspect.start] = failure, 0.0, 0.0


@dataclass(eq=False)
class _Load:
    """What one call asked for."""

    processes: DecoderProcesses
    parts: Iterator[_Part]  # that are not begun
    begun: deque[_Part] = field(default_factory=deque)  # in order, until they are taken

    def taken(self) -> Generator[Tried, None, None]:
        processes = self.processes
        try:
            while self.begun or processes.begin(self):
                processes.hand_out()
                while None in self.begun[0].found:
                    processes.wait()
                processes.begun -= 1
                yield from _tried(self.begun.popleft())
        finally:
            processes.drop(self)


def _tried(part: _Part) -> Iterator[Tried]:
    room = part.room
    for row, (sample, answer) in enumerate(zip(part.samples, part.found, strict=True), part.first):
        assert answer is not None
        found, read, decode = answer
        if isinstance(found, Failure):
            yield Tried(sample, room.images, found, read, decode)
        else:
            size, crop, flags = found
            view = View(room.seen[row], size, crop, Flag(flags))
            yield Tried(sample, room.images, view, read, decode)


def _end(decoders: list[_Decoder], selector: BaseSelector, memory: _SharedMemory) -> None:
    for decoder in decoders:
        decoder.process.end()
    selector.close()
    memory.close()


def serve(parent: Connection) -> None:
    """Be one of the processes: read and decode what the parent asks for."""
    limit_threads(1)
    os.nice(BEHIND)
    try:
        file, size = parent.recv()
        memory = _SharedMemory(size, file)
        with bugs_named():
            loader = parent.recv()()
        parent.send(None)
        while True:
            number, count, first, samples = parent.recv()
            room = _Room.of(memory.piece(number), count, loader.preprocessing)
            try:
                parent.send(_answer(loader, samples, room, first))
            except (ShardcamError, InternalError) as error:
                parent.send(error)
    except (ShardcamError, InternalError) as error:
        parent.send(error)
    except (EOFError, OSError):
        return


def _answer(
    loader: BatchLoader, samples: Sequence[Sample], room: _Room, first: int
) -> list[_Found]:
    """Of each sample its failure, or its view's size, crop and flags; then two times in seconds."""
    rows = range(first, first + len(samples))
    answer: list[_Found] = []
    places = ((room.images, row) for row in rows)
    for row, one in zip(rows, loader.tried(samples, places), strict=True):
        if isinstance(one.found, Failure):
            answer.append((one.found, one.read, one.decode))
            continue
        view = one.found
        if room.seen is not room.images:
            room.seen[row] = view.pixels
        answer.append(((view.image_size, view.crop, int(view.flags)), one.read, one.decode))
    return answer
