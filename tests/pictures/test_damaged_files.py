"""Files that their decoder or checksums call damaged: a flag or a failure, never silence."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam.engine.pictures.decode_image import decode
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.pictures.jpeg import decode_jpeg
from shardcam.engine.types import NO_FLAG, Decoding, Flag, Preprocessing
from tests.faults.damaged_images import picture, saved
from tests.readers.hostile_images import chunk, patched, png, tiff, tiff_entries

IMAGE = picture(0)
PIXELS = np.asarray(IMAGE)
HOW = Decoding(max_pixels=10**6)
JPEG = saved(IMAGE, "JPEG", quality=90)
SCAN = JPEG.index(b"\xff\xda")
MIDDLE = len(JPEG) // 2
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def opened(data):
    """The pixels of a file, and whether they are flagged."""
    found = decode(data, HOW)
    return found.pixels, found.flags


def reason_of(data):
    with pytest.raises(UndecodableImage) as caught:
        decode(data, HOW)
    return caught.value.reason


def is_found_out(data):
    try:
        return opened(data)[1] == Flag.DAMAGED
    except UndecodableImage as error:
        return error.reason == "undecodable"


def pillows(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def opencvs(data, reduction=1):
    return cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[reduction])[..., ::-1]


@pytest.mark.parametrize("reduction", REDUCED)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"subsampling": 2, "quality": 30}),
        ("RGB", {"progressive": True}),
        ("RGB", {"restart_marker_blocks": 3}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
def test_whole_jpeg_files_have_the_pixels_of_opencv_and_no_flag(mode, options, reduction):
    image = IMAGE.convert(mode).crop((0, 0, 101, 77))
    data = saved(image, "JPEG", **options) + b"and more"
    pixels, flags = decode_jpeg(data, (77, 101), reduction)
    np.testing.assert_array_equal(pixels, opencvs(data, reduction))
    assert flags == NO_FLAG


def test_unusual_subsampling_of_jpeg_files_is_no_damage():
    """4:1:0, which TurboJPEG refuses: of one block of four by two, an eighth as many of chroma."""
    data = bytearray(saved(Image.new("RGB", (32, 8), (90, 90, 90)), "JPEG", subsampling="4:1:1"))
    data[data.index(b"\xff\xc0") + 11] = 0x21  # 4:2:2 of half the width
    data = bytes(data)
    pixels, flags = opened(data)
    np.testing.assert_array_equal(pixels, opencvs(data))
    assert flags == NO_FLAG


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:MIDDLE] + b"\xff\xd9",
        JPEG[:MIDDLE] + JPEG[MIDDLE + 1000 :],
        JPEG[:MIDDLE] + JPEG[MIDDLE - 100 :],
        patched(JPEG, MIDDLE, bytes(range(200))),
        JPEG[:-2] + bytes(9) + JPEG[-2:],
        JPEG[:20] + b"\0\0" + JPEG[20:],
    ],
    ids=["short", "gone", "twice", "noise", "more", "header"],
)
def test_a_damaged_jpeg_file_is_flagged_and_keeps_what_was_before_the_damage(data):
    pixels, flags = opened(data)
    assert flags == Flag.DAMAGED
    assert pixels.shape == PIXELS.shape
    np.testing.assert_array_equal(pixels[:24], pillows(JPEG)[:24])
    opened(saved(IMAGE.rotate(180), "JPEG"))
    np.testing.assert_array_equal(opened(data)[0], pixels)  # nothing of another picture


@pytest.mark.parametrize("box", [None, (0.0, 0.0, 9.0, 9.0)])
@pytest.mark.parametrize("fast", [False, True])
def test_the_network_view_of_a_damaged_file_is_flagged(fast, box):
    small = Preprocessing(20, 20, (0.0,) * 3, (1.0,) * 3)
    for data, flags in ((JPEG, NO_FLAG), (JPEG[:MIDDLE] + b"\xff\xd9", Flag.DAMAGED)):
        seen = view_of(data, box, small, Decoding(10**6, fast))
        assert seen.flags == flags


@pytest.mark.parametrize("form", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_jpeg_file_that_is_cut_off_fails_damaged_or_not(form, damaged):
    data = saved(IMAGE, "JPEG", quality=90, exif=with_thumbnail(), **form)
    if damaged:
        data = patched(data, len(data) // 2, bytes(range(200)))
        assert opened(data)[1] == Flag.DAMAGED
    for end in (-2, -200, -len(data) // 3):
        assert reason_of(data[:end]) == "undecodable"


def with_thumbnail():
    exif = Image.Exif()
    exif[0x010E] = saved(IMAGE.resize((16, 16)), "JPEG").decode("latin-1")
    return exif


def test_scan_parameters_that_some_cameras_write_are_no_damage():
    at = SCAN + 5 + 2 * JPEG[SCAN + 4]
    assert JPEG[at : at + 3] == b"\0\x3f\0"
    odd = patched(JPEG, at, b"\1\x20\0")
    pixels, flags = opened(odd)
    np.testing.assert_array_equal(pixels, pillows(JPEG))
    assert flags == NO_FLAG
    assert opened(patched(odd, MIDDLE, bytes(range(200))))[1] == Flag.DAMAGED
    assert reason_of(odd[:-200]) == "undecodable"


APNG = saved(IMAGE, "PNG", save_all=True, append_images=[picture(1)])


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
@pytest.mark.parametrize("checked", [False, True])
def test_of_a_damaged_animation_the_first_picture_is_left(kind, checked):
    """OpenCV crashes on some of these."""
    at = APNG.index(kind)
    size = int.from_bytes(APNG[at - 4 : at], "big")
    body = bytes(255 - value for value in APNG[at + 4 : at + 4 + size])
    data = patched(APNG, at + 4, body)
    if checked:
        data = patched(data, at - 4, chunk(kind, body))
    pixels, flags = opened(data)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert flags == (NO_FLAG if checked else Flag.DAMAGED)


@pytest.mark.parametrize(
    ("before", "flags"),
    [
        (chunk(b"tEXt", b"a\0b"), NO_FLAG),
        (chunk(b"tEXt", b"a\0b", crc=1), Flag.DAMAGED),
        (chunk(b"iCCP", b"k\0\0" + bytes(99)), NO_FLAG),
        (chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000))), NO_FLAG),
        (chunk(b"tRNS", bytes(6), crc=1), Flag.DAMAGED),
        (chunk(b"eXIf", b"Exif\0\0", crc=1), Flag.DAMAGED),
    ],
)
def test_png_chunks_that_do_not_make_the_picture(before, flags, capfd):
    pixels, found = opened(png(before=before))
    assert (pixels.shape, found) == ((4, 4, 3), flags)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT", b"IEND"])
def test_png_chunks_that_make_the_picture(kind, capfd):
    data = saved(IMAGE.quantize(64), "PNG")
    at = data.index(kind)
    at += 4 + int.from_bytes(data[at - 4 : at], "big")
    assert reason_of(patched(data, at, bytes(4))) == "undecodable"
    assert capfd.readouterr().err == ""


def noisy(data, at):
    """With 20 other bytes."""
    return patched(data, at, bytes(value ^ 0x5A for value in data[at : at + 20]))


def by_pillow(compression, mode="RGB", **options):
    return saved(IMAGE.convert(mode), "TIFF", compression=compression, **options)


DEFLATED = by_pillow("tiff_adobe_deflate", tiffinfo={278: 8})


@pytest.mark.parametrize(
    ("compression", "mode"),
    [
        ("raw", "RGB"),
        ("tiff_lzw", "RGB"),
        ("tiff_lzw", "RGBA"),
        ("tiff_adobe_deflate", "RGB"),
        ("packbits", "L"),
        ("jpeg", "RGB"),
        ("jpeg", "L"),
        ("group4", "1"),
    ],
)
def test_whole_tiff_files_have_no_flag(compression, mode):
    data = by_pillow(compression, mode)
    pixels, flags = opened(data)
    np.testing.assert_array_equal(pixels, pillows(data))
    assert flags == NO_FLAG


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_noise_in_a_compressed_tiff_file_is_found(compression, predictor, capfd):
    data = by_pillow(compression, tiffinfo={278: 16, 317: predictor})
    for at in range(1000, len(data) - 1000, len(data) // 20):
        assert is_found_out(noisy(data, at)), at
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("compression", "mode"), [("jpeg", "RGB"), ("group4", "1")])
def test_a_tiff_file_whose_decoder_goes_on_is_flagged(compression, mode, capfd):
    data = by_pillow(compression, mode)
    pixels, flags = opened(patched(data, len(data) // 2, bytes(range(1, 60))))
    assert (pixels.shape, flags) == (PIXELS.shape, Flag.DAMAGED)
    assert capfd.readouterr().err == ""


def test_a_hole_in_fax_codes_is_flagged():
    """libtiff takes it for their end, and leaves the rest white."""
    data = by_pillow("group4", "1")
    middle = len(data) // 2
    assert opened(patched(data, middle, bytes(8)))[1] == Flag.DAMAGED


def packed(lengths):
    """PackBits data of 256 gray pixels: runs of zeros of these lengths."""
    data = b"".join(bytes([257 - length, 0]) for length in lengths)
    tags = {"compression": (259, 3, 1, 32773), "bytes": (279, 4, 1, len(data))}
    return tiff(tiff_entries(16, 16, **tags), data)


def test_packbits_that_stand_for_more_or_fewer_bytes():
    assert opened(packed([100, 100, 56]))[1] == NO_FLAG
    assert is_found_out(packed([100, 100, 50]))
    assert is_found_out(packed([100, 100, 56, 9]))


def deflated(tiled, rows=bytes(range(256)), checksum=None):
    """16x16 gray pixels in a strip or a tile."""
    data = zlib.compress(rows)
    if checksum is not None:
        data = data[:-4] + checksum
    tags = {"compression": (259, 3, 1, 8), "bytes": (279, 4, 1, len(data))}
    if tiled:
        tags |= {"rows": None, "across": (322, 3, 1, 16), "down": (323, 3, 1, 16)}
        tags["bytes"] = (325, 4, 1, len(data))
    start = 8 + 2 + 12 * len(tiff_entries(16, 16, **tags)) + 4
    tags["offset"] = (324 if tiled else 273, 4, 1, start)
    return tiff(tiff_entries(16, 16, **tags), data)


@pytest.mark.parametrize("tiled", [False, True])
def test_the_checksum_of_deflate_in_tiff_files(tiled):
    """libtiff stops reading when it has the pixels."""
    pixels, flags = opened(deflated(tiled))
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))
    assert flags == NO_FLAG
    longer = bytes(range(256)) + bytes(3)
    assert opened(deflated(tiled, longer))[1] == Flag.DAMAGED
    assert is_found_out(deflated(tiled, checksum=struct.pack(">I", 1)))


def test_gif_files_have_no_flag_until_their_codes_do_not_add_up():
    image = IMAGE.quantize(64)
    for options in ({}, {"save_all": True, "append_images": [picture(1)]}, {"interlace": 0}):
        pixels, flags = opened(saved(image, "GIF", **options))
        np.testing.assert_array_equal(pixels, pillows(saved(image, "GIF", **options)))
        assert flags == NO_FLAG
    data = saved(image, "GIF")
    for at in range(len(data) // 2, len(data) - 300, 50):
        assert is_found_out(noisy(data, at)), at
