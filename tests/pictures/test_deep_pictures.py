"""Pictures of more than 8 bits a channel become the 8-bit pictures that they were made from."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.types import Decoding, Flag, Preprocessing
from tests.pictures.decoded import HOW, decoded
from tests.pictures.picture_files import deep_png, saved, tiff

GRAY = np.random.RandomState(2).randint(0, 256, (64, 80)).astype(np.uint8)
GRAY[0, :2] = 0, 255
COLOURS = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], axis=2)


def shifted(pixels, bits):
    return pixels.astype(np.uint16) << (bits - 8)


def pnm(values, top):
    kind, (height, width) = ("P5" if values.ndim == 2 else "P6"), values.shape[:2]
    return f"{kind}\n# made\n{width} {height}\n{top}\n".encode() + values.astype(">u2").tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "TIFF, deflated", "PGM", "JPEG 2000"])
def test_gray(bits, form):
    values = shifted(GRAY, bits)
    data = {
        "PNG": lambda: saved(Image.fromarray(values), "PNG"),
        "TIFF": lambda: saved(Image.fromarray(values), "TIFF"),
        "TIFF, deflated": lambda: tiff(values, compression="zlib", predictor=True, byteorder=">"),
        "PGM": lambda: pnm(values, 65535),
        "JPEG 2000": lambda: saved(Image.fromarray(values), "JPEG2000"),
    }[form]()
    np.testing.assert_array_equal(decoded(data), np.stack([GRAY] * 3, axis=2))
    np.testing.assert_array_equal(decoded(data, depth_range="full")[..., 0], values >> 8)
    window = decoded(data, depth_range=(0, 2**bits - 1))
    np.testing.assert_array_equal(window[..., 1], GRAY)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "TIFF in tiles", "PPM"])
def test_colours(bits, form):
    values = shifted(COLOURS, bits)
    data = {
        "PNG": lambda: deep_png(values, 2),
        "TIFF": lambda: tiff(values, photometric="rgb"),
        "TIFF in tiles": lambda: tiff(values, photometric="rgb", tile=(16, 32), byteorder=">"),
        "PPM": lambda: pnm(values, 65535),
    }[form]()
    np.testing.assert_array_equal(decoded(data), COLOURS)
    np.testing.assert_array_equal(decoded(data, depth_range="full"), values >> 8)


def dark(bits):
    """Pictures that use a quarter of their range: only the file can tell."""
    return shifted(GRAY // 4, bits)


def test_what_the_file_states_is_taken():
    expected = np.stack([GRAY // 4] * 3, axis=2)
    files = {
        "PGM": pnm(dark(12), 4095),
        "PNG": deep_png(dark(12), 0, (b"sBIT", b"\x0c")),
        "PNG, all 16 bits": deep_png(dark(16), 0, (b"sBIT", b"\x10")),
        "PNG, scaled up": deep_png(dark(16), 0, (b"sBIT", b"\x0c")),
        "TIFF": tiff(dark(12), extratags=[(281, "H", 1, 4095, True)]),
        "TIFF, packed": packed_tiff(dark(12)),
    }
    for name, data in files.items():
        np.testing.assert_array_equal(decoded(data), expected, err_msg=name)
    undeclared = tiff(dark(12), extratags=[(281, "H", 1, 1000, True)])  # a statistic
    np.testing.assert_array_equal(decoded(undeclared)[..., 0], dark(12) >> 2)
    odd = pnm(GRAY.astype(int) * 1000 // 255, 1000)
    assert abs(decoded(odd)[..., 0].astype(int) - GRAY).max() <= 1


def packed_tiff(values):
    """12 bits a value, two values in three bytes."""
    first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2)
    data = packed.astype(np.uint8).tobytes()
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def test_white_may_be_zero():
    np.testing.assert_array_equal(
        decoded(tiff(shifted(GRAY, 12), photometric="miniswhite"))[..., 0], 255 - GRAY
    )


def test_floats():
    expected = np.stack([GRAY] * 3, axis=2)
    unit = GRAY / np.float32(255)
    pfm = saved(Image.fromarray(unit), "PPM")
    for data in (tiff(unit), pfm, tiff(GRAY.astype(np.float32)), tiff(unit, byteorder=">")):
        np.testing.assert_array_equal(decoded(data), expected)
    holes = unit.copy()
    holes[5, 5:8] = np.nan, np.inf, -np.inf
    assert decoded(tiff(holes))[5, 5:8, 0].tolist() == [0, 255, 0]


def test_a_range_is_asked_for_where_none_can_be_told():
    hounsfield = GRAY.astype(np.int16) * 8 - 1000
    for data in (tiff(hounsfield), tiff(hounsfield.astype(np.float32))):
        with pytest.raises(UndecodableImage, match="from -1000 to 1040: say which"):
            decoded(data)
        window = decoded(data, depth_range=(-1000, 1039))[..., 2].astype(int)
        assert abs(window - GRAY).max() <= 1
    assert decoded(tiff(hounsfield), depth_range="full")[0, 1, 0] == (1040 + 32768) >> 8


def test_signed_bytes_are_not_taken_for_unsigned_ones():
    values = (GRAY.astype(int) - 128).astype(np.int8)
    with pytest.raises(UndecodableImage, match="from -128 to 127: say which"):
        decoded(tiff(values))
    np.testing.assert_array_equal(decoded(tiff(values), depth_range="full")[..., 0], GRAY)
    np.testing.assert_array_equal(decoded(tiff(GRAY.astype(np.int8) & 127))[..., 0], GRAY & 127)


def test_numbers_in_text_may_end_with_the_file():
    numbers = " ".join(map(str, GRAY.ravel().astype(int) * 16))
    data = f"P2 80 64 4095 {numbers}".encode()
    np.testing.assert_array_equal(decoded(data)[..., 0], GRAY)


def test_separate_planes_are_refused():
    """OpenCV mixes them up, and so does Pillow."""
    planes = np.ascontiguousarray(np.moveaxis(shifted(COLOURS, 12), 2, 0))
    with pytest.raises(UndecodableImage, match="contiguous"):
        decoded(tiff(planes, photometric="rgb", planarconfig="separate"))


def test_deep_colours_of_jpeg_2000_have_the_depth_that_is_stated(tmp_path):
    """Pillow gives 8 of 16 bits."""
    path = str(tmp_path / "picture.jp2")
    cv2.imwrite(path, shifted(COLOURS, 16), [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    data = (tmp_path / "picture.jp2").read_bytes()
    np.testing.assert_array_equal(decoded(data), COLOURS[..., ::-1])
    with pytest.raises(UndecodableImage, match="leave out --depth-range"):
        decoded(data, depth_range=(0, 4095))


def test_deep_avif_has_the_depth_that_is_stated():
    """Pillow writes 8 bits: its boxes are made to say 10."""
    data = bytearray(saved(Image.fromarray(COLOURS), "AVIF"))
    np.testing.assert_array_equal(decoded(bytes(data)), decoded(bytes(data), depth_range=(0, 9)))
    data[data.index(b"av1C") + 6] |= 0x40
    at = data.index(b"pixi\0\0\0\0\3") + 9
    data[at : at + 3] = 10, 10, 10
    with pytest.raises(UndecodableImage, match="AVIF colours are read"):
        decoded(bytes(data), depth_range=(0, 4095))


def test_eight_bits_are_taken_as_they_are():
    for form in ("PNG", "TIFF", "PPM", "BMP"):
        data = saved(Image.fromarray(GRAY // 20), form)
        np.testing.assert_array_equal(
            decoded(data, depth_range=(0, 4095))[..., 0], GRAY // 20, err_msg=form
        )


@pytest.mark.parametrize(
    ("pixels", "flag"),
    [
        (GRAY, Flag(0)),
        (GRAY // 8, Flag.SMALL_RANGE),  # 0 to 31
        (GRAY // 8 + 220, Flag.SMALL_RANGE),
        (np.zeros((1, 1), np.uint8), Flag.SMALL_RANGE),
        (np.where(np.arange(GRAY.size).reshape(GRAY.shape) == 99, 255, GRAY // 9), Flag(0)),
    ],
)
def test_a_picture_that_uses_little_of_its_range_is_flagged(pixels, flag):
    preprocessing = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, "pad")
    data = saved(Image.fromarray(pixels.astype(np.uint8)), "PNG")
    assert view_of(data, None, preprocessing, HOW).flags == flag
    assert view_of(decoded(data), None, preprocessing, HOW).flags == flag
    whole = (0.0, 0.0, *map(float, pixels.shape))
    assert view_of(data, whole, preprocessing, HOW).flags == flag


def test_twelve_bits_in_sixteen_are_flagged_only_if_read_as_sixteen():
    preprocessing = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
    data = saved(Image.fromarray(shifted(GRAY, 12)), "PNG")
    assert view_of(data, None, preprocessing, HOW).flags == 0
    full = Decoding(10**6, depth_range="full")
    assert view_of(data, None, preprocessing, full).flags == Flag.SMALL_RANGE
