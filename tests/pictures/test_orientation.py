"""Pictures are turned by EXIF's orientation, whatever holds them, as Pillow turns them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.types import Decoding, Preprocessing
from tests.pictures.decoded import HOW, decoded
from tests.pictures.picture_files import png_chunk, saved, tiff
from tests.readers.sources import opened, write_rec, write_tar

HEIGHT, WIDTH = 37, 53
COLOURS = np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
PICTURE = Image.fromarray(COLOURS[..., :3])
SMOOTH = Image.fromarray(COLOURS[:3, :4, :3]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
BOX = (3.0, 5.0, 24.0, 31.0)


def late_png(orientation):
    """EXIF after the pixels, as the standard allows."""
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">2H", orientation, 0)
    data = saved(PICTURE, "PNG")
    return data[:-12] + png_chunk(b"eXIf", exif + bytes(4)) + data[-12:]


def old_png(orientation):
    """EXIF as text, as ImageMagick wrote it."""
    exif, info = Image.Exif(), PngInfo()
    exif[0x0112] = orientation
    block = exif.tobytes()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    return saved(PICTURE, "PNG", pnginfo=info)


def deep_tiff(orientation, **options):
    values = COLOURS[..., :3].astype(np.uint16) * 257
    tag = (274, "H", 1, orientation, True)
    return tiff(values, photometric="rgb", extratags=[tag], **options)


FILES = {
    "JPEG": lambda n: saved(SMOOTH, "JPEG", n, quality=95),
    "MPO": lambda n: saved(SMOOTH, "MPO", n, save_all=True, append_images=[PICTURE], quality=95),
    "PNG": lambda n: saved(PICTURE, "PNG", n),
    "PNG, gray": lambda n: saved(PICTURE.convert("L"), "PNG", n),
    "PNG, EXIF last": late_png,
    "PNG, EXIF in hexadecimal": old_png,
    "PNG, animated": lambda n: saved(PICTURE, "PNG", n, save_all=True, append_images=[SMOOTH]),
    "WebP": lambda n: saved(SMOOTH, "WEBP", n, quality=95),
    "WebP, lossless": lambda n: saved(PICTURE, "WEBP", n, lossless=True),
    "WebP, alpha": lambda n: saved(Image.fromarray(COLOURS), "WEBP", n, lossless=True, exact=True),
    "TIFF": lambda n: saved(PICTURE, "TIFF", n),
    "TIFF, alpha": lambda n: saved(Image.fromarray(COLOURS), "TIFF", n),
    "TIFF, deflated": lambda n: saved(PICTURE, "TIFF", n, compression="tiff_adobe_deflate"),
    "TIFF, 16 bits": deep_tiff,
    "TIFF, 16 bits in tiles": lambda n: deep_tiff(n, tile=(16, 16)),
    "AVIF": lambda n: saved(SMOOTH, "AVIF", n, quality=95),
}


def turned_by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", FILES)
def test_orientation(name, orientation):
    data = FILES[name](orientation)
    theirs = turned_by_pillow(data)
    found = decoded(data)
    assert found.shape == theirs.shape
    assert abs(found - theirs).max() <= (3 if name in ("JPEG", "MPO") else 0)

    preprocessing = Preprocessing(21, 26, (0.0,) * 3, (1.0,) * 3, "squash")
    part = view_of(data, BOX, preprocessing, HOW)
    np.testing.assert_array_equal(part.pixels, found[3:24, 5:31])
    assert (part.image_size, part.crop) == (theirs.shape[:2], BOX)
    fast = view_of(data, None, preprocessing, Decoding(10**6, fast=True))
    whole = view_of(data, None, preprocessing, HOW)
    assert (fast.image_size, fast.crop) == (whole.image_size, whole.crop)
    assert fast.image_size == theirs.shape[:2]


def test_orientation_of_gray_deep_pictures():
    values = COLOURS[..., 0].astype(np.uint16) * 257
    for form in ("PNG", "TIFF"):
        for orientation in range(1, 9):
            data = saved(Image.fromarray(values), form, orientation)
            theirs = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
            np.testing.assert_array_equal(decoded(data)[..., 0], theirs >> 8)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "form"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_orientation_of_any_type(order, kind, form):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = struct.pack(f"{order}IHHHI{form}4x", 8, 1, 274, kind, 1, 6)
    data = saved(PICTURE, "PNG", exif=b"Exif\0\0" + mark + exif)
    np.testing.assert_array_equal(decoded(data), turned_by_pillow(data))
    assert decoded(data).shape[:2] == ((HEIGHT, WIDTH) if kind == 1 else (WIDTH, HEIGHT))


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF"])
def test_orientation_in_xmp_alone_turns_nothing(form):
    """As in browsers."""
    if form == "TIFF":
        tag = (700, "B", len(XMP), XMP, True)
        data = tiff(COLOURS[..., :3], photometric="rgb", extratags=[tag])
    else:
        data = saved(PICTURE, form, xmp=XMP)
    assert turned_by_pillow(data).shape[:2] == (WIDTH, HEIGHT)
    assert decoded(data).shape[:2] == (HEIGHT, WIDTH)


def test_every_container_gives_the_same_turned_pictures(tmp_path):
    files = {
        f"{name.split(',')[0]}-{i}-{orientation}.jpg": make(orientation)  # read by content
        for i, (name, make) in enumerate(FILES.items())
        for orientation in (2, 6)
    }
    (tmp_path / "folder").mkdir()
    for name, data in files.items():
        (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "list.txt").write_text("".join(f"folder/{name}\n" for name in sorted(files)))
    ordered = sorted(files.items())
    sources = [
        tmp_path / "folder",
        tmp_path / "list.txt",
        write_tar(tmp_path / "files.tar", ordered),
        write_rec(tmp_path / "files.rec", [data for _, data in ordered], [0] * len(ordered)),
    ]
    preprocessing = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
    for source in sources:
        reader = opened(source)
        samples = list(reader.samples())
        assert len(samples) == len(ordered)
        for sample, (_, data) in zip(samples, ordered):
            seen = view_of(reader.read(sample), None, preprocessing, HOW)
            assert seen.image_size == turned_by_pillow(data).shape[:2]
            np.testing.assert_array_equal(
                seen.pixels, view_of(decoded(data), None, preprocessing, HOW).pixels
            )
