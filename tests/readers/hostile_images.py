"""Image files that are cut, damaged, oversized or odd, and what must come of each.

`CASES` maps a file name to its bytes and to what is expected: OK, or the reason of the failure
row.  Everything is made by code; the pictures are 40x60 where nothing else is said.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

OK = "ok"
EMPTY, NOT, DAMAGED, LARGE = "empty", "not an image", "undecodable", "oversized"
MOST = 65535

CASES = {}
_RNG = np.random.RandomState(11)
_PIXELS = np.asarray(
    Image.fromarray(_RNG.randint(0, 256, (6, 8, 3), np.uint8)).resize((60, 40), Image.BICUBIC)
)
_MORE = [Image.fromarray(255 - _PIXELS)]
_NOISE = _RNG.bytes(4096)


def add(name, data, expected):
    assert name not in CASES, name
    CASES[name] = (data, expected)


def saved(form, pixels=_PIXELS, mode=None, **options):
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind, data, crc=None):
    """One chunk of a PNG file."""
    checksum = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(width=4, height=4, depth=8, colour=2, rows=None, before=b"", interlace=0, end=True):
    """A PNG file whose rows are given as they are compressed."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    if rows is None:
        rows = bytes(1 + 3 * width) * height
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + (chunk(b"IEND", b"") if end else b"")


def marker(data, code):
    """Where a marker of a JPEG file begins."""
    return data.index(bytes([0xFF, code]))


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def jpeg_segment(code, data):
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def exif(entries, order=b"II"):
    """A JPEG whose EXIF directory has these (tag, type, count, value)."""
    end = "<" if order == b"II" else ">"
    body = struct.pack(end + "H", len(entries))
    for entry in entries:
        body += struct.pack(end + "HHII", *entry)
    tiff = order + struct.pack(end + "HI", 42, 8) + body + struct.pack(end + "I", 8)
    return JPEG[:2] + jpeg_segment(0xE1, b"Exif\0\0" + tiff) + JPEG[2:]


def tiff(entries, data=b"", next_directory=0):
    """A little-endian TIFF file with one directory; `data` follows at byte 8 + its size."""
    body = struct.pack("<H", len(entries))
    for entry in sorted(entries):
        body += struct.pack("<HHII", *entry)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", next_directory) + data


def tiff_entries(width=4, height=4, **changed):
    """Tags of a plain grey picture with one strip."""
    tags = {
        "width": (256, 3, 1, width), "height": (257, 3, 1, height), "bits": (258, 3, 1, 8),
        "compression": (259, 3, 1, 1), "photometric": (262, 3, 1, 1),
        "offset": (273, 4, 1, 122), "samples": (277, 3, 1, 1), "rows": (278, 3, 1, height),
        "bytes": (279, 4, 1, width * height),
    }  # fmt: skip
    tags |= changed
    return [tag for tag in tags.values() if tag is not None]


def bmp(width, height, depth=24, compression=0, data=b"", offset=54, colours=0):
    header = struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset)
    header += struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, 0, 0, 0, colours, 0
    )
    return header + data


JPEG = saved("JPEG", quality=90)
PROGRESSIVE = saved("JPEG", quality=90, progressive=True)
PNG = saved("PNG")
WEBP = saved("WEBP", quality=90)
LOSSLESS = saved("WEBP", lossless=True)
BMP = saved("BMP")
TIFF = saved("TIFF")
LZW = saved("TIFF", compression="tiff_lzw")
GIF = saved("GIF")

# No image at all.
add("empty.jpg", b"", EMPTY)
add("one-byte.png", b"\x89", NOT)
add("html.jpg", b"<!doctype html><html><body>404 Not Found</body></html>", NOT)
add("text.png", b"not an image\n" * 50, NOT)
add("noise.webp", _NOISE, NOT)
add("zeros.tif", bytes(4096), NOT)
add("zip.gif", b"PK\x03\x04" + _NOISE, NOT)
add("pdf.jpg", b"%PDF-1.7\n" + _NOISE, NOT)
add("svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', NOT)
add("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", NOT)
add("ppm.png", b"P6 4 4 255\n" + bytes(48), OK)
add("qoi.png", saved("QOI", _PIXELS), NOT)
add("script.bmp", b"#!/bin/sh\ntouch /tmp/x\n", NOT)

# Files of every format cut at many places, and the per cent of the file that its header needs:
# all of a WebP file; the directory of a compressed TIFF is at its end.
for _name, _data, _header in (
    ("jpeg", JPEG, 50),
    ("progressive", PROGRESSIVE, 50),
    ("png", PNG, 0),
    ("webp", WEBP, 101),
    ("lossless", LOSSLESS, 101),
    ("bmp", BMP, 0),
    ("tiff", TIFF, 10),
    ("lzw", LZW, 101),
    ("gif", GIF, 50),
):
    for _percent in (1, 10, 50, 75, 95):
        _cut = _data[: max(3, len(_data) * _percent // 100)]
        add(f"cut-{_name}-{_percent:02d}.png", _cut, DAMAGED if _percent >= _header else NOT)
    _whole = OK if _name == "gif" else DAMAGED if _header <= 100 else NOT  # a GIF's end is one byte
    add(f"cut-{_name}-last-byte.png", _data[:-1], _whole)

# Sizes.
_sof = marker(JPEG, 0xC0) + 5
_size = struct.pack(">HH", MOST, MOST)
add("bomb.jpg", patched(JPEG, _sof, _size), LARGE)
add("bomb.png", png(MOST, MOST, rows=bytes(10000)), LARGE)
add("bomb.gif", patched(GIF, 6, struct.pack("<HH", MOST, MOST)), LARGE)
add("bomb.bmp", bmp(MOST, MOST, data=bytes(100)), LARGE)
add("bomb.tif", tiff(tiff_entries(MOST, MOST), bytes(16)), LARGE)
add("bomb.webp", patched(LOSSLESS, 21, b"\xff\xff\xff\x0f"), LARGE)
add("bomb-2g.png", png(2**31 - 1, 2**31 - 1, rows=bytes(100)), LARGE)
add("bomb-negative.bmp", bmp(-5, 5, data=bytes(100)), LARGE)
add("just-allowed.png", saved("PNG", np.zeros((9000, 9000), np.uint8), "1"), OK)
add("just-allowed-but-cut.jpg", patched(JPEG, _sof, struct.pack(">HH", 9000, 9000)), OK)
add("just-allowed-but-empty.bmp", bmp(9000, 9000, data=bytes(100)), DAMAGED)
add("just-allowed-but-empty.tif", tiff(tiff_entries(9000, 9000), bytes(16)), DAMAGED)
add("just-allowed-but-empty.gif", patched(GIF, 6, struct.pack("<HH", 9000, 9000)), OK)
add("zero-width.jpg", patched(JPEG, _sof, struct.pack(">HH", 40, 0)), NOT)
add("zero-height.jpg", patched(JPEG, _sof, struct.pack(">HH", 0, 60)), NOT)
add("zero.png", png(0, 0), NOT)
add("zero.bmp", bmp(0, 0), NOT)
add("zero.tif", tiff(tiff_entries(0, 0), bytes(16)), NOT)
add("zero.gif", patched(GIF, 6, bytes(4)), OK)
add("one-by-one.png", saved("PNG", _PIXELS[:1, :1]), OK)
add("row.jpg", saved("JPEG", np.zeros((1, 20000, 3), np.uint8)), OK)
add("column.png", saved("PNG", np.zeros((20000, 1, 3), np.uint8)), OK)

# JPEG. Of scans that are damaged or too short but end well, libjpeg makes grey; they are flagged.
_scan = marker(JPEG, 0xDA) + 14
_huffman = marker(JPEG, 0xC4)
add("grey.jpg", saved("JPEG", mode="L"), OK)
add("cmyk.jpg", saved("JPEG", mode="CMYK"), OK)
add("progressive.jpg", PROGRESSIVE, OK)
add("optimised.jpg", saved("JPEG", optimize=True, subsampling=2), OK)
add("restarts.jpg", saved("JPEG", restart_marker_blocks=1), OK)
add("no-end.jpg", JPEG[:-2], DAMAGED)
add("tail-of-zeros.jpg", JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), DAMAGED)
add("noise-in-the-middle.jpg", patched(JPEG, _scan + 100, _NOISE[:400]), OK)
add("zeros-in-the-middle.jpg", patched(JPEG, _scan + 100, bytes(60)), OK)
add("noise-after-the-end.jpg", JPEG + _NOISE, OK)
add("twice.jpg", JPEG + JPEG, OK)
add("zip-behind-it.jpg", JPEG + b"PK\x03\x04" + _NOISE, OK)
add("markers-filled.jpg", JPEG[:-2] + b"\xff\xff\xff\xd9", OK)
add("bad-huffman.jpg", patched(JPEG, _huffman + 5, b"\xff" * 16), DAMAGED)
add("huffman-missing.jpg", JPEG[:_huffman] + JPEG[_huffman + 33 :], OK)
add("quantisation-missing.jpg", patched(JPEG, marker(JPEG, 0xDB) + 1, b"\xfe"), DAMAGED)
add("twelve-bits.jpg", patched(JPEG, _sof - 1, b"\x0c"), NOT)
add("arithmetic.jpg", patched(JPEG, marker(JPEG, 0xC0) + 1, b"\xc9"), OK)
add("lossless-mode.jpg", patched(JPEG, marker(JPEG, 0xC0) + 1, b"\xc3"), DAMAGED)
add("five-components.jpg", patched(JPEG, _sof + 4, b"\x05"), NOT)
add("sampling-zero.jpg", patched(JPEG, _sof + 6, b"\0"), DAMAGED)
add("taller-than-its-data.jpg", patched(JPEG, _sof, struct.pack(">HH", 400, 60)), OK)
add("only-start-and-end.jpg", b"\xff\xd8\xff\xd9", NOT)
add("segment-of-length-0.jpg", JPEG[:2] + b"\xff\xe1\0\0" + JPEG[2:], OK)
add("segment-beyond-the-file.jpg", JPEG[:2] + b"\xff\xe1\xff\xff" + JPEG[2:], NOT)
add(
    "two-headers.jpg",
    JPEG[:_huffman] + JPEG[marker(JPEG, 0xC0) : _huffman] + JPEG[_huffman:],
    DAMAGED,
)
for _orientation in (0, 3, 6, 9, 65535):
    add(f"orientation-{_orientation}.jpg", exif([(0x112, 3, 1, _orientation)]), OK)
add("orientation-of-wrong-type.jpg", exif([(0x112, 2, 4_000_000_000, 99)]), OK)
add("exif-looping.jpg", exif([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)]), OK)
add("exif-big-endian.jpg", exif([(0x112, 3, 1, 6 << 16)], b"MM"), OK)
add("exif-noise.jpg", JPEG[:2] + jpeg_segment(0xE1, b"Exif\0\0" + _NOISE) + JPEG[2:], OK)
add("exif-huge.jpg", JPEG[:2] + jpeg_segment(0xE1, b"Exif\0\0" + bytes(65000)) * 40 + JPEG[2:], OK)
add("profile-noise.jpg", saved("JPEG", icc_profile=_NOISE), OK)

# PNG.
_idat = PNG.index(b"IDAT")
add("bits-1.png", saved("PNG", mode="1"), OK)
add("bits-2.png", saved("PNG", mode="P", bits=2), OK)
add("bits-4.png", saved("PNG", mode="P", bits=4), OK)
add("bits-16.png", saved("PNG", _PIXELS[..., 0] * np.uint16(257)), OK)
add("bits-16-colour.png", png(4, 4, 16, 2, bytes(25) * 4), OK)
add("alpha.png", saved("PNG", mode="RGBA"), OK)
add("grey-alpha.png", saved("PNG", mode="LA"), OK)
add("transparent.png", saved("PNG", mode="P", transparency=3), OK)
add("interlaced.png", png(4, 4, rows=(b"\0" + bytes(3)) * 2 + b"\0\0\0\0\0\0\0" * 5 + bytes(30),
    interlace=1), OK)  # fmt: skip
add("interlaced-cut.png", png(400, 400, rows=bytes(900), interlace=1), DAMAGED)
add("animated.png", saved("PNG", save_all=True, append_images=_MORE), OK)
add("profile-noise.png", saved("PNG", icc_profile=_NOISE), OK)
add("no-palette.png", png(4, 4, 8, 3, bytes(5) * 4), NOT)
add("index-beyond-palette.png", png(4, 4, 8, 3, (b"\0" + b"\xff" * 4) * 4,
    chunk(b"PLTE", b"\1\2\3")), OK)  # fmt: skip
add("palette-of-wrong-length.png", png(4, 4, 8, 3, bytes(5) * 4, chunk(b"PLTE", b"\1\2")), DAMAGED)
add("crc-of-header.png", patched(PNG, 29, b"\0\0\0\0"), DAMAGED)
add("crc-of-data.png", patched(PNG, len(PNG) - 16, b"\0\0\0\0"), DAMAGED)
add("bit-flipped.png", patched(PNG, _idat + 60, bytes([PNG[_idat + 60] ^ 16])), DAMAGED)
add("filter-unknown.png", png(4, 4, rows=(b"\x09" + bytes(12)) * 4), DAMAGED)
add("too-few-rows.png", png(40, 40, rows=bytes(121) * 10), DAMAGED)
add("too-many-rows.png", png(4, 4, rows=bytes(13) * 400), OK)
add("no-data.png", PNG[: _idat - 4] + chunk(b"IEND", b""), DAMAGED)
add("no-end.png", png(end=False), DAMAGED)
add("depth-3.png", png(4, 4, 3, 2), NOT)
add("colour-type-5.png", png(4, 4, 8, 5), NOT)
add(
    "two-headers.png",
    png(before=chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))),
    DAMAGED,
)
add("length-of-data-wrong.png", patched(PNG, _idat - 4, b"\x7f\xff\xff\xff"), DAMAGED)
add("text-bomb.png", png(before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))), OK)
add("profile-bomb.png", png(before=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000)))), OK)
add("unknown-critical-chunk.png", png(before=chunk(b"ABCD", b"x")), DAMAGED)
add("after-the-end.png", PNG + _NOISE, OK)

# GIF.
add("animated.gif", saved("GIF", save_all=True, append_images=_MORE), OK)
add("no-frame.gif", GIF[: 13 + 768] + b";", NOT)
add("header-only.gif", GIF[:13], NOT)
add("bad-codes.gif", patched(GIF, len(GIF) - 600, _NOISE[:300]), DAMAGED)
add("frame-outside.gif", patched(GIF, 6, struct.pack("<HH", 5, 5)), OK)
add("code-size-99.gif", patched(GIF, GIF.index(b",\0\0\0\0", 700) + 10, b"\x63"), DAMAGED)

# BMP.
add("top-down.bmp", bmp(4, -4, data=bytes(48)), OK)
add("height-least.bmp", bmp(4, -(2**31), data=bytes(48)), LARGE)
add("run-length.bmp", bmp(4, 4, 8, 1, bytes(1024) + b"\4\1\0\0" * 4 + b"\0\1", 1078, 256), OK)
add("run-length-beyond.bmp", bmp(4, 4, 8, 1, bytes(1024) + b"\xff\1" * 99, 1078, 256), DAMAGED)
add("run-length-cut.bmp", bmp(400, 400, 8, 1, bytes(1024) + b"\4\1", 1078, 256), DAMAGED)
add("run-length-4.bmp", bmp(4, 4, 4, 2, bytes(64) + b"\4\x11\0\0" * 4 + b"\0\1", 118, 16), OK)
add("offset-beyond.bmp", patched(BMP, 10, b"\xff\xff\xff\x7f"), DAMAGED)
add("bits-1.bmp", saved("BMP", mode="1"), OK)
add("bits-16.bmp", bmp(4, 4, 16, 0, bytes(32)), OK)
add("bits-7.bmp", bmp(4, 4, 7, 0, bytes(32)), NOT)
add("colours-4g.bmp", bmp(4, 4, 8, 0, bytes(1040), 1078, 2**32 - 1), NOT)
add("jpeg-inside.bmp", bmp(60, 40, 0, 4, JPEG), NOT)

# WebP.
add("alpha.webp", saved("WEBP", mode="RGBA"), OK)
add(
    "animated.webp",
    saved("WEBP", save_all=True, append_images=_MORE),
    OK,
)
add("length-short.webp", patched(WEBP, 4, b"\4\0\0\0"), NOT)
add("length-4g.webp", patched(WEBP, 4, b"\xff\xff\xff\xff"), NOT)
add("noise-inside.webp", patched(WEBP, 40, _NOISE[:200]), DAMAGED)
add("no-picture.webp", b"RIFF" + struct.pack("<I", 4) + b"WEBP", NOT)

# TIFF.
add(
    "many-frames.tif",
    saved("TIFF", save_all=True, append_images=_MORE * 9),
    OK,
)
add("bits-16.tif", saved("TIFF", _PIXELS[..., 0] * np.uint16(257)), OK)
add("cmyk.tif", saved("TIFF", mode="CMYK"), OK)
add("float.tif", saved("TIFF", _PIXELS[..., 0].astype(np.float32)), OK)
add("not-a-number.tif", saved("TIFF", np.full((8, 8), np.nan, np.float32)), DAMAGED)
add("jpeg-inside.tif", saved("TIFF", compression="jpeg"), OK)
add("deflate.tif", saved("TIFF", compression="tiff_adobe_deflate"), OK)
add("fax.tif", saved("TIFF", mode="1", compression="group4"), OK)
add("one-strip.tif", tiff(tiff_entries(), bytes(16)), OK)
add("looping.tif", tiff(tiff_entries(), bytes(16), 8), OK)
add("directory-beyond.tif", tiff(tiff_entries(), bytes(16), 2**31), OK)
add("strips-4g.tif", tiff(tiff_entries(offset=(273, 4, 2**32 - 1, 122)), bytes(16)), NOT)
add("strip-beyond.tif", tiff(tiff_entries(offset=(273, 4, 1, 2**31)), bytes(16)), DAMAGED)
add("strip-of-4g.tif", tiff(tiff_entries(bytes=(279, 4, 1, 2**32 - 1)), bytes(16)), OK)
add("no-strips.tif", tiff(tiff_entries(offset=None), bytes(16)), NOT)
add("rows-0.tif", tiff(tiff_entries(rows=(278, 3, 1, 0)), bytes(16)), DAMAGED)
add("tiles-huge.tif", tiff([*tiff_entries(offset=None, bytes=None, rows=None), (322, 4, 1, 2**16),
    (323, 4, 1, 2**16), (324, 4, 1, 122), (325, 4, 1, 16)], bytes(16)), DAMAGED)  # fmt: skip
add("tiles-0.tif", tiff([*tiff_entries(offset=None, bytes=None, rows=None), (322, 4, 1, 0),
    (323, 4, 1, 0), (324, 4, 1, 122), (325, 4, 1, 16)], bytes(16)), DAMAGED)  # fmt: skip
add("bits-64.tif", tiff(tiff_entries(bits=(258, 3, 1, 64)), bytes(128)), NOT)
add("samples-65535.tif", tiff(tiff_entries(samples=(277, 3, 1, MOST)), bytes(16)), NOT)
add("compression-unknown.tif", tiff(tiff_entries(compression=(259, 3, 1, 9999)), bytes(16)), NOT)
add("photometric-unknown.tif", tiff(tiff_entries(photometric=(262, 3, 1, 999)), bytes(16)), NOT)
add("no-entries.tif", tiff([]), NOT)
add("entries-65535.tif", b"II*\0\x08\0\0\0\xff\xff" + _NOISE, NOT)
add("big.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 0) + bytes(64), NOT)

for _name, _frames in (("frames-2g", 2**31 - 1), ("frame-huge", 2)):
    _animation = chunk(b"acTL", struct.pack(">II", _frames, 0))
    _animation += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, MOST, MOST, 0, 0, 1, 1, 0, 0))
    add(f"{_name}.png", png(before=_animation), OK)
add("exif-noise.png", png(before=chunk(b"eXIf", _NOISE)), OK)
add("exif-noise.webp", saved("WEBP", exif=b"Exif\0\0" + _NOISE), OK)
add("million-wide.png", saved("PNG", np.zeros((1, 1_000_001), np.uint8)), DAMAGED)
add("million-high.bmp", saved("BMP", np.zeros((1_000_001, 1), np.uint8)), OK)
add("canvas-huge.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10)
    + b"\x02\0\0\0" + b"\xff\x3f\0" * 2, NOT)  # fmt: skip

# One format under the name of another is what it is.
add("is-a-png.jpg", PNG, OK)
add("is-a-jpeg.webp", JPEG, OK)
add("is-a-tiff.bmp", TIFF, OK)
add("gif-and-script.gif", GIF[:6] + GIF[6:] + b"=1;alert(1)//", OK)
