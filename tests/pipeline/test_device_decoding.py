"""Pictures that a device decodes: the same batches as the CPU's, whatever is among them.

The device is this machine, with the CPU's decoder.
"""

import io
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from shardcam.engine.errors import InternalError
from shardcam.engine.pictures.imaging import SMALL_RANGE, border
from shardcam.engine.pipeline.decoder_threads import Decoders
from shardcam.engine.pipeline.device_decoding import DeviceDecoding
from shardcam.engine.pipeline.prefetch import BYTES_TOGETHER, BatchLoader, Prefetcher
from shardcam.engine.pipeline.targets import parse_targets
from shardcam.engine.protocols import Reader
from shardcam.engine.types import Decoding, Failure, Flag, Preprocessing, Sample, Shard
from shardcam.kernels import resize

RGB = Preprocessing(32, 48, (120.0, 110.0, 100.0), (60.0, 60.0, 60.0))
rng = np.random.RandomState(0)


def photograph(height=90, width=70, mode="RGB", kind="JPEG", **options):
    coarse = Image.fromarray(rng.randint(0, 256, (6, 8, 3), np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(
        stream, kind, **options
    )
    return stream.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return photograph(exif=exif)


WHOLE = photograph()
HALF = len(WHOLE) // 2
FILES = {
    "plain": WHOLE,
    "progressive": photograph(200, 40, progressive=True),
    "4:4:4": photograph(33, 301, subsampling=0),
    "dark": simplejpeg.encode_jpeg(np.full((50, 50, 3), 9, np.uint8)),
    "wrong": WHOLE[:HALF] + b"\xff\xd0" + WHOLE[HALF:],  # the device gives it up
    "gray": photograph(mode="L"),
    "CMYK": photograph(mode="CMYK"),
    "turned": turned(),
    "cut off": WHOLE[:-300],
    "too large": photograph(300, 300),
    "png": photograph(kind="PNG"),
    "empty": b"",
    "text": b"no picture",
    "pixels": rng.randint(0, 256, (40, 50, 3)).astype(np.uint8),
}
ON_DEVICE = {"plain", "progressive", "4:4:4", "dark"}
HOW = Decoding(max_pixels=80_000)


class Files(Reader):
    def __init__(self):
        self.told = []

    def read_many(self, samples):
        self.told.append(len(samples))
        return super().read_many(samples)

    def read(self, sample):
        if sample.key == "gone":
            raise FileNotFoundError(2, "gone")
        return FILES[sample.key]


class Here:
    """A device decoder, and a batch of it, in NumPy."""

    def __init__(self, preprocessing):
        self.preprocessing, self.decoded = preprocessing, set()

    def begin(self, rows):
        self.images = np.empty((rows, self.preprocessing.height, self.preprocessing.width, 3), "u1")
        self.images[:] = border(self.preprocessing)
        return self

    def decode(self, files):
        small = {}
        for row, file in files.items():
            try:
                pixels = simplejpeg.decode_jpeg(file.data)
            except ValueError:
                continue
            sides, fit = self.images.shape[1:3], file.fit
            resized = resize(pixels, fit.box, fit.size, fit.window(sides))
            self.images[(row, *fit.place(sides))] = resized
            top, left, bottom, right = file.part
            small[row] = np.ptp(pixels[top:bottom, left:right]) < SMALL_RANGE
            self.decoded.add(file.data)
        return small

    def put(self, views):
        for row, view in views.items():
            self.images[row] = view

    def close(self, rows):
        return self.images[rows], self.images[rows]


def loaders(preprocessing, batch_size=4, threads=1):
    """That of the CPU, and that of the device."""
    targets, threads = parse_targets("top1", 10), Decoders(threads)
    loader = BatchLoader(Files(), targets, preprocessing, batch_size, HOW, threads)
    device = Here(preprocessing)
    return loader, replace(loader, others=DeviceDecoding(loader, device)), device


def shard_of(keys, box=None, size=-1):
    return Shard(0, tuple(Sample(key, i, -1, "", size, box) for i, key in enumerate(keys)))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert (one.listed, one.samples, one.failures) == (
            other.listed, other.samples, other.failures)  # fmt: skip
        np.testing.assert_array_equal(one.images, other.images)
        for view, expected_view in zip(one.views, other.views, strict=True):
            assert replace(view, pixels=0) == replace(expected_view, pixels=0)
            np.testing.assert_array_equal(view.pixels, expected_view.pixels)


ORDERS = {
    "crop": RGB,
    "pad, bgr": replace(RGB, channels="bgr", resize="pad"),
    "squash, gray": replace(RGB, mean=(1.0,), std=(1.0,), resize="squash"),
    "shorter": replace(RGB, resize="shorter:40,crop"),
    "shorter, with a border": replace(RGB, resize="shorter:28,crop"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("box", [None, (10.5, 3.0, 30.0, 45.2)])
def test_the_same_batches(order, box):
    """Pictures of all kinds, whole or in a box that is outside of some; failures leave no gap."""
    cpu, gpu, device = loaders(ORDERS[order], threads=3)
    shard = shard_of([*FILES, "gone", *FILES], box)
    expected = list(cpu.batches(shard))
    assert_same(list(Prefetcher(gpu.batches).batches(shard)), expected)
    kinds = {failure.error for batch in expected for failure in batch.failures}
    assert kinds >= {"unreadable", "empty", "undecodable", "oversized", "not an image"}
    assert device.decoded == {FILES[key] for key in ON_DEVICE}
    views = {s.key: v for batch in expected for s, v in zip(batch.samples, batch.views)}
    assert views["dark"].flags == Flag.SMALL_RANGE
    assert views["wrong"].flags == Flag.DAMAGED


def test_a_batch_of_failures_and_one_of_nothing():
    cpu, gpu, _ = loaders(RGB, 2)
    shard = shard_of(["gone", "empty", "plain", "plain"])
    given_up = tuple(Failure("plain", i, "worker", "worker crashed", "") for i in (2, 3))
    shard = replace(shard, given_up=given_up)
    found = list(gpu.batches(shard))
    assert_same(found, list(cpu.batches(shard)))
    assert [(batch.listed, len(batch.failures)) for batch in found] == [(2, 2), (2, 0)]


def test_a_box_outside_of_a_picture_fails_as_on_the_cpu():
    cpu, gpu, _ = loaders(RGB)
    shard = shard_of(["plain", "png"], (500.0, 500.0, 600.0, 600.0))
    (batch,) = gpu.batches(shard)
    assert_same([batch], list(cpu.batches(shard)))
    assert [failure.error for failure in batch.failures] == ["box outside"] * 2


def test_large_files_are_held_by_fewer():
    _, gpu, _ = loaders(RGB, 5)
    list(gpu.batches(shard_of(["plain"] * 5, size=BYTES_TOGETHER // 2)))
    assert gpu.reader.told == [2, 2, 1]


def test_a_bug_names_the_samples(monkeypatch):
    _, gpu, device = loaders(RGB)
    monkeypatch.setattr(device, "decode", lambda files: 1 / 0)
    with pytest.raises(InternalError, match=r"ZeroDivisionError.*plain"):
        list(gpu.batches(shard_of(["plain", "png"])))
