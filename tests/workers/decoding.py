"""Loaders whose reader does as the keys of its samples say, for processes that decode."""

import os
import signal
import time
from functools import partial

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.pipeline.prefetch import BatchLoader
from shardcam.engine.pipeline.targets import parse_targets
from shardcam.engine.protocols import Reader
from shardcam.engine.types import Decoding, Preprocessing, Sample, Shard
from shardcam.engine.workers.decoder_processes import DecoderProcesses

SIDE, BATCH = 6, 40
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.0,) * 3, (1.0,) * 3)


class Told(Reader):
    """Pictures of one colour, the sample's number."""

    def read(self, sample):
        if sample.key == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if sample.key == "hang":
            time.sleep(600)
        if sample.key == "bug":
            raise KeyError("a bug of the reader")
        if sample.key == "no source":
            raise SourceError("the source has gone")
        if sample.key == "gone":
            raise OSError("gone")
        return np.full((SIDE, SIDE, 3), sample.index % 256, np.uint8)


def told(preprocessing=PREPROCESSING):
    targets = parse_targets("top1", 10)
    return BatchLoader(Told(), targets, preprocessing, BATCH, Decoding(100))


def dying():
    os.kill(os.getpid(), signal.SIGKILL)


def processes(count, build=told, preprocessing=PREPROCESSING):
    return DecoderProcesses(count, build, preprocessing, BATCH)


def beside(others, preprocessing=PREPROCESSING):
    """A loader that has others do the work."""
    targets = parse_targets("top1", 10)
    return BatchLoader(Told(), targets, preprocessing, BATCH, Decoding(100), others=others)


def shard(*keys, index=0, first=0):
    samples = (Sample(key, first + i, -1, "", 0) for i, key in enumerate(keys))
    return Shard(index, tuple(samples))


def hang(count):
    """A process whose decoders never answer: their numbers, and no end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as in a shell's &
    others = processes(count)
    batches = beside(others).batches(shard(*["hang"] * 100))
    print(*(one.process.number for one in others._decoders), flush=True)
    next(batches)


many = partial(shard, *["good"] * 100)
