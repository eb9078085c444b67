"""The sizes of packed data: as a plain decoder finds them, of what Pillow writes and of noise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shardcam import kernels
from tests.kernels import reference

U1 = NDArray[np.uint8]


def pictures() -> list[U1]:
    """Flat, smooth, repeated and noisy values, more than a table of codes holds."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (120, 160), np.uint8)
    tiles = np.tile(noise[:7, :9], (18, 18))
    return [noise, noise // 16, tiles, np.add.outer(np.arange(120), np.arange(99)).astype(np.uint8),
            np.zeros((300, 300), np.uint8), noise[:1, :1]]  # fmt: skip


def tiff_strip(pixels: U1, compression: str) -> U1:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, "TIFF", compression=compression, tiffinfo={278: len(pixels)}
    )
    tags = Image.open(stream).tag_v2  # type: ignore[attr-defined]
    (start,), (size,) = tags[273], tags[279]
    return np.frombuffer(stream.getvalue()[start : start + size], np.uint8)


@pytest.mark.parametrize("number", range(len(pictures())))
def test_of_tiff_strips(number: int) -> None:
    pixels = pictures()[number]
    assert kernels.lzw_length(tiff_strip(pixels, "tiff_lzw")) == pixels.size
    assert kernels.packbits_length(tiff_strip(pixels, "packbits")) == pixels.size


@pytest.mark.parametrize("number", range(len(pictures())))
def test_of_gif_pictures(number: int) -> None:
    pixels = pictures()[number]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "GIF")
    data = stream.getvalue()
    at = data.index(b",\0\0\0\0") + 10
    at += 3 << (data[at - 1] & 7) + 1 if data[at - 1] & 0x80 else 0
    codes, bits, at = b"", data[at], at + 1
    while size := data[at]:
        codes += data[at + 1 : at + 1 + size]
        at += 1 + size
    assert kernels.lzw_length(np.frombuffer(codes, np.uint8), bits, gif=True) == pixels.size


@pytest.mark.parametrize("gif", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_lzw_equals_its_twin_on_anything(bits: int, gif: bool) -> None:
    random = np.random.default_rng(bits)
    found = []
    for top in (2, 20, 256):
        for size in (1, 2, 3, 30, 3000):
            data = random.integers(0, top, size, np.uint8)
            found.append(kernels.lzw_length(data, bits, gif=gif))
            assert found[-1] == reference.lzw_length(data, bits, gif=gif)
    assert -1 in found and max(found) > 0
    full = np.zeros(10_000, np.uint8)  # more codes than there are
    assert kernels.lzw_length(full, bits, gif=gif) == reference.lzw_length(full, bits, gif=gif)
    whole = tiff_strip(pictures()[2], "tiff_lzw")
    for at in random.integers(0, len(whole), 50):
        damaged = whole.copy()
        damaged[at] ^= 1 << random.integers(8)
        assert kernels.lzw_length(damaged) == reference.lzw_length(damaged, 8, gif=False)


def test_packbits_equals_its_twin_on_anything() -> None:
    random = np.random.default_rng(0)
    found = []
    for size in (1, 2, 3, 30, 300):
        for _ in range(20):
            data = random.integers(0, 256, size, np.uint8)
            found.append(kernels.packbits_length(data))
            assert found[-1] == reference.packbits_length(data)
    assert -1 in found and max(found) > 0


@pytest.mark.parametrize("kernel", [kernels.lzw_length, kernels.packbits_length])
def test_refuses_and_names_the_argument(kernel: object) -> None:
    for data, error in ((np.zeros(0, np.uint8), ValueError), (np.zeros(4, np.int8), TypeError)):
        with pytest.raises(error, match=r"^data: "):
            kernel(data)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^bits: expected 1 to 8, got 9$"):
        kernels.lzw_length(np.zeros(1, np.uint8), 9)
