"""The headers of plain JPEG files are as Pillow reads them, or are left to it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from shardcam.engine.pictures import image_header
from shardcam.engine.pictures.image_header import (
    Header,
    UndecodableImage,
    header_of,
    usual_jpeg,
)

EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a picture"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MADE = {  # how Pillow writes it, and whether it is plain
    "baseline": ("RGB", {}, True),
    "progressive": ("RGB", {"progressive": True}, True),
    "gray": ("L", {"dpi": (72, 72)}, True),
    "four colours": ("CMYK", {}, True),
    "all else": ("RGB", {"exif": EXIF, "icc_profile": PROFILE, "comment": b"none"}, True),
    "16-bit tables": ("RGB", {"qtables": [[300] * 64] * 2}, False),
}


def jpeg(mode, options):
    stream = io.BytesIO()
    Image.new(mode, (37, 22), 90).save(stream, "JPEG", **options)
    return stream.getvalue()


def with_segment(data, marker, body):
    """Before all other segments."""
    return data[:2] + bytes([255, marker]) + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def by_pillow(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_header, "_plain_jpeg", lambda data: None)
        return header_of(data)


@pytest.mark.parametrize("name", MADE)
def test_plain_files(name):
    mode, options, plain = MADE[name]
    data = jpeg(mode, options)
    expected = Header("JPEG", 37, 22, 6 if "exif" in options else 1)
    assert header_of(data) == by_pillow(data) == expected
    assert image_header._plain_jpeg(data) == (expected if plain else None)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE2, b"MPF\0" + bytes(40)),
        (0xED, b"Photoshop 3.0\0" + bytes(4)),
        (0xE0, b"JFIF"),
        (0xEE, b"Adobe"),
        (0xC0, b"\x08\0\x01\0\x01\x03"),
        (0xC3, bytes(15)),
        (0xCC, b""),
    ],
)
def test_what_pillow_looks_into_is_left_to_it(marker, body):
    assert image_header._plain_jpeg(with_segment(jpeg("RGB", {}), marker, body)) is None


USUAL = {  # how Pillow writes it, and whether any decoder reads it alike
    **{f"sampled as {n}": ("RGB", {"subsampling": n}, True) for n in (0, 1, 2)},
    "progressive": (*MADE["progressive"][:2], True),
    "a comment": ("RGB", {"comment": b"none", "icc_profile": PROFILE}, True),
    "turned": (*MADE["all else"][:2], False),
    "gray": (*MADE["gray"][:2], False),
    "four colours": (*MADE["four colours"][:2], False),
    "16-bit tables": (*MADE["16-bit tables"][:2], False),
    "RGB as it is": ("RGB", {"keep_rgb": True}, False),
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_files(name):
    mode, options, usual = USUAL[name]
    data = jpeg(mode, options)
    assert usual_jpeg(data) == (Header("JPEG", 37, 22) if usual else None)
    assert usual_jpeg(data + b"more") == usual_jpeg(data)
    assert usual_jpeg(data[:-2]) is None  # the thumbnail's end, if there is one, is not the file's


def test_files_that_decoders_may_read_in_different_ways():
    data = jpeg("RGB", {"subsampling": 2})
    frame = data.index(b"\xff\xc0")
    for at, value in ((1, 0xC1), (11, 0x14), (14, 0x21)):  # the kind, samples of two colours
        odd = data[: frame + at] + bytes([value]) + data[frame + at + 1 :]
        assert header_of(odd).form == "JPEG" and usual_jpeg(odd) is None
    adobe = b"Adobe\0\x64\0\0\0\0"
    assert usual_jpeg(with_segment(data, 0xEE, adobe + b"\x01")) == Header("JPEG", 37, 22)
    assert usual_jpeg(with_segment(data, 0xEE, adobe + b"\0")) is None  # RGB, not YCbCr


@pytest.mark.filterwarnings("ignore")  # of damaged EXIF blocks, by Pillow
def test_damaged_files():
    """Where it is not left to Pillow, Pillow finds the same."""
    rng = np.random.RandomState(0)
    found = 0
    for name in ("baseline", "all else"):
        whole = jpeg(*MADE[name][:2])
        for _ in range(400):
            data = bytearray(whole[: rng.randint(1, 700)] if rng.rand() < 0.2 else whole)
            for at in rng.randint(0, min(len(data), 700), rng.randint(1, 4)):
                data[at] = rng.choice([0, 1, 255, rng.randint(256)])
            plain = image_header._plain_jpeg(bytes(data))
            if plain is not None:
                assert by_pillow(bytes(data)) == plain
                found += 1
    assert found > 100
    with pytest.raises(UndecodableImage):
        header_of(whole[:100])
