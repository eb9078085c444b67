"""Decoding against Pillow, and the geometry of each resize mode."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import stacked, view, view_of
from shardcam.engine.types import Decoding, Preprocessing
from tests.pictures.decoded import HOW, decoded

RNG = np.random.RandomState(0)
FAST = Decoding(max_pixels=10**6, fast=True)
PICTURE = cv2.GaussianBlur(RNG.randint(0, 256, (37, 53, 3), np.uint8), (5, 5), 0)


def encoded(form, image=None, **options):
    stream = io.BytesIO()
    (image or Image.fromarray(PICTURE)).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats(form):
    np.testing.assert_array_equal(decoded(encoded(form)), PICTURE)


def test_lossless_webp():
    np.testing.assert_array_equal(decoded(encoded("WEBP", lossless=True)), PICTURE)


def test_gif_gives_its_first_frame():
    frames = [Image.fromarray(PICTURE).quantize(64), Image.new("P", (53, 37))]
    data = encoded("GIF", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decoded(data), np.asarray(frames[0].convert("RGB")))
    with pytest.raises(UndecodableImage, match="truncated or damaged"):
        decoded(data[: len(data) // 8])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_close_to_pillow(options):
    data = encoded("JPEG", quality=95, **options)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert abs(decoded(data) - theirs).mean() < 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_pixel_modes_become_rgb(mode):
    image = Image.fromarray(PICTURE).convert(mode)
    data = encoded("TIFF" if mode == "CMYK" else "PNG", image)
    if mode == "CMYK":
        data = encoded("JPEG", image, quality=95)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert abs(decoded(data) - theirs).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated_file_is_refused(form, part):
    data = encoded(form)
    with pytest.raises(UndecodableImage):
        decoded(data[: int(len(data) * part)])


def test_reasons():
    for data, reason in [
        (b"", "empty"),
        (b"plain text", "not an image"),
        (encoded("PNG")[:-40], "undecodable"),
        (encoded("PNG", Image.new("1", (2000, 2000))), "oversized"),
    ]:
        with pytest.raises(UndecodableImage) as caught:
            decoded(data)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"8BPS\0\x01", "PSD"),
        (b"%PDF-1.7", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_other_kinds_of_pictures_are_called_by_name(data, kind):
    with pytest.raises(UndecodableImage, match=f"^{kind} files are not supported: convert it to"):
        decoded(data + b"\0" * 100)


def test_huge_picture_is_refused_before_it_is_decoded():
    """A header that claims 60000x60000 pixels and has none of them."""
    header = bytearray(encoded("PNG"))
    header[16:24] = (60000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with pytest.raises(UndecodableImage, match="60000x60000"):
        decoded(bytes(header), max_pixels=10**8)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (41, 41), (224, 224), (1, 500), (500, 1)])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_geometry(shape, mode):
    """A gradient picture says where each pixel of the view came from."""
    ramp = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=2)
    span = np.maximum(np.array(shape) - 1, 1)
    pixels = np.dstack([np.rint(ramp * 255 / span), np.full(shape, 9)]).astype(np.uint8)
    seen = view(pixels, Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3, mode))
    assert seen.pixels.shape == (32, 32, 3)
    assert seen.pixels.flags.c_contiguous
    assert seen.image_size == shape
    top, left, bottom, right = seen.crop
    for row, column in [(10, 10), (16, 16), (21, 12)]:
        y = top + (row + 0.5) / 32 * (bottom - top)
        x = left + (column + 0.5) / 32 * (right - left)
        if 2 < y < shape[0] - 2 and 2 < x < shape[1] - 2:
            expected = np.array([y - 0.5, x - 0.5]) * 255 / span
            tolerance = 255 / span.min() + 2
            assert abs(seen.pixels[row, column, :2] - expected).max() < tolerance


# Of torchvision 0.29: a picture's size, Resize, CenterCrop; the resized size, and where the crop
# begins in it. What lies before the picture, or behind it, CenterCrop fills with 0.
TORCHVISION = [
    ((330, 331), 256, (224, 224), (256, 256), (16, 16)),
    ((375, 500), 256, (224, 224), (256, 341), (16, 58)),
    ((500, 375), 232, (224, 224), (309, 232), (42, 4)),
    ((480, 641), 57, (40, 56), (57, 76), (8, 10)),
    ((641, 427), 200, (224, 224), (300, 200), (38, -12)),
    ((257, 1000), 256, (224, 224), (256, 996), (16, 386)),
    ((331, 330), 64, (48, 192), (64, 64), (8, -64)),
    ((375, 500), 64, (48, 192), (64, 85), (8, -53)),
    ((40, 90), 57, (40, 56), (57, 128), (8, 36)),
    ((1000, 33), 256, (224, 224), (7757, 256), (3766, 16)),
]


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
@pytest.mark.parametrize(("size", "shorter", "sides", "resized", "begin"), TORCHVISION)
def test_shorter_is_torchvisions_resize_and_crop(
    size, shorter, sides, resized, begin, interpolation
):
    rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    pixels = np.dstack([rows % 256, columns % 256, rows * 0 + 9]).astype(np.uint8)
    resize = f"shorter:{shorter},crop"
    seen = view(pixels, Preprocessing(*sides, (0.0,) * 3, (1.0,) * 3, resize, interpolation))
    y, x = size[0] / resized[0], size[1] / resized[1]
    end = begin[0] + sides[0], begin[1] + sides[1]
    crop = (begin[0] * y, begin[1] * x, end[0] * y, end[1] * x)
    np.testing.assert_allclose(seen.crop, crop, rtol=1e-12)
    whole = view(pixels, Preprocessing(*resized, (0.0,) * 3, (1.0,) * 3, "squash", interpolation))
    beyond = [(max(-b, 0), max(e - n, 0)) for b, e, n in zip(begin, end, resized)]
    padded = np.pad(whole.pixels, (*beyond, (0, 0)))
    top, left = max(begin[0], 0), max(begin[1], 0)
    expected = padded[top : top + sides[0], left : left + sides[1]]
    np.testing.assert_array_equal(seen.pixels, expected)


def test_shorter_needs_no_more_of_a_long_picture_than_is_seen():
    sizes = (32, 32, (0.0,) * 3, (1.0,) * 3, "shorter:40,crop")
    line = np.full((1, 10**6, 3), 7, np.uint8)
    assert (view(line, Preprocessing(*sizes)).pixels == 7).all()
    with pytest.raises(UndecodableImage, match="40000000x40 pixels once it is resized"):
        view(line, Preprocessing(*sizes, "bicubic"))


def test_crop_takes_the_centre():
    seen = view(PICTURE, Preprocessing(37, 37, (0.0,) * 3, (1.0,) * 3))
    np.testing.assert_array_equal(seen.pixels, PICTURE[:, 8:45])
    assert seen.crop == (0, 8, 37, 45)


def test_pad_fills_with_the_mean_colour():
    seen = view(PICTURE, Preprocessing(53, 53, (1.0, 127.4, 300.0), (1.0,) * 3, "pad"))
    np.testing.assert_array_equal(seen.pixels[8:45], PICTURE)
    assert seen.pixels[0, 0].tolist() == [1, 127, 255]
    assert seen.crop == (-8, 0, 45, 53)


def test_pad_fills_with_gray_for_one_channel():
    """The view is RGB until its luminance is taken."""
    preprocessing = Preprocessing(53, 53, (33.4,), (78.6,), "pad")
    seen = view(PICTURE, preprocessing)
    np.testing.assert_array_equal(seen.pixels[8:45], PICTURE)
    (pixels,) = stacked([seen.pixels], preprocessing)
    assert pixels.shape == (53, 53, 1)
    assert (pixels[:8] == 33).all() and (pixels[45:] == 33).all()


def test_a_box_beyond_the_picture_is_cut_and_one_outside_fails():
    picture = np.random.RandomState(0).randint(0, 256, (20, 30, 3), np.uint8)
    whole = Preprocessing(20, 30, (0.0,) * 3, (1.0,) * 3, "squash")
    seen = view_of(picture, (-5.0, -5.0, 100.0, 100.0), whole, HOW)
    np.testing.assert_array_equal(seen.pixels, picture)
    assert seen.crop == (0, 0, 20, 30)
    with pytest.raises(UndecodableImage, match="the box 30,0,40,5 is outside 30x20 pixels"):
        view_of(picture, (0.0, 30.0, 5.0, 40.0), whole, HOW)
    with pytest.raises(UndecodableImage, match="at most 599 are allowed"):
        view_of(picture, None, whole, Decoding(599))


def large_jpeg(height, width, orientation=None):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, rows * 0 + 90], axis=2)
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels.astype(np.uint8)).save(
        stream, "JPEG", quality=95, exif=exif, dpi=(72, 72)
    )
    return stream.getvalue()


@pytest.mark.parametrize("resize", ["crop", "squash", "pad", "shorter:62,crop"])
@pytest.mark.parametrize(
    ("size", "orientation"), [((500, 901), None), ((901, 500), None), ((500, 901), 6)]
)
def test_fast_decoding_sees_the_same_part_of_the_picture(size, orientation, resize):
    data = large_jpeg(*size, orientation)
    preprocessing = Preprocessing(60, 60, (0.0,) * 3, (1.0,) * 3, resize)
    whole = view_of(data, None, preprocessing, HOW)
    fast = view_of(data, None, preprocessing, FAST)
    assert fast.image_size == whole.image_size
    exact = resize.startswith("shorter")  # sizes and places are those of the whole picture
    np.testing.assert_allclose(fast.crop, whole.crop, atol=1e-9 if exact else 8)
    assert abs(fast.pixels.astype(int) - whole.pixels).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(449, 450), (450, 449), (450, 450)])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_every_orientation_of_nearly_square_pictures(size, orientation, reduction):
    """Reduced, 449 and 450 are the same: only the file says which side is which."""
    data = large_jpeg(*size, orientation)
    theirs = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    pixels = decoded(data, 449 // reduction)
    assert pixels.shape == (-(-theirs.height // reduction), -(-theirs.width // reduction), 3)
    enlarged = cv2.resize(pixels, theirs.size, interpolation=cv2.INTER_LINEAR).astype(int)
    assert abs(enlarged - np.asarray(theirs)).max() < 8
    preprocessing = Preprocessing(449 // reduction, 50, (0.0,) * 3, (1.0,) * 3, "squash")
    fast = view_of(data, None, preprocessing, FAST)
    assert fast.image_size == (theirs.height, theirs.width)
    assert fast.crop == (0, 0, theirs.height, theirs.width)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_fast_decoding_of_other_files_changes_nothing(form):
    """Whatever becomes of their orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(form, exif=exif)
    preprocessing = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
    whole, fast = (view_of(data, None, preprocessing, how) for how in (HOW, FAST))
    np.testing.assert_array_equal(fast.pixels, whole.pixels)
    assert (fast.image_size, fast.crop) == (whole.image_size, whole.crop)


BLOCK = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06"


@pytest.mark.parametrize(
    ("block", "size"),
    [
        (BLOCK, (60, 40)),
        (b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0", (60, 40)),
        (BLOCK[:-1] + b"\x09", (40, 60)),  # no orientation
        (b"MM\0+" + BLOCK[4:], (40, 60)),  # no mark of TIFF
        (BLOCK[:4] + b"\xff\0\0\x08" + BLOCK[8:], (40, 60)),  # begins beyond its end
        (BLOCK[:8] + b"\xff\xff\x01\x0f" + BLOCK[12:], (40, 60)),  # 65535 tags, none is it
        (BLOCK[:8] + b"\xff\xff" + BLOCK[10:], (60, 40)),  # 65535 tags, the first is it
    ],
)
def test_orientation_of_damaged_exif_blocks(block, size):
    data = large_jpeg(40, 60, 6)
    assert data.count(BLOCK) == 1
    assert decoded(data.replace(BLOCK, block)).shape[:2] == size


def test_reduction_leaves_enough_pixels_and_is_for_jpeg_only():
    data = large_jpeg(500, 901)
    sizes = [decoded(data, enough).shape[:2] for enough in (62, 63, 125, 250, 251, 1000)]
    assert sizes == [(63, 113), (125, 226), (125, 226), (250, 451), (500, 901), (500, 901)]
    assert decoded(encoded("PNG"), 1).shape == PICTURE.shape
    with pytest.raises(UndecodableImage, match="at most 1000 are allowed"):
        decoded(data, 8, max_pixels=1000)


NAMED = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize("name", NAMED)
def test_interpolations_mean_what_pillow_means_when_enlarging(name):
    """Shrinking differs: Pillow widens its filters, OpenCV samples."""
    small = cv2.GaussianBlur(RNG.randint(0, 256, (24, 24, 3), np.uint8), (9, 9), 0)
    sizes = (96, 96, (0.0,) * 3, (1.0,) * 3, "squash")
    ours = view(small, Preprocessing(*sizes, name)).pixels.astype(int)
    theirs = np.asarray(Image.fromarray(small).resize((96, 96), NAMED[name])).astype(int)
    assert abs(ours - theirs)[8:-8, 8:-8].max() <= 3  # kernels of 4 and 6, or 8, taps
    others = [view(small, Preprocessing(*sizes, other)).pixels for other in NAMED if other != name]
    assert all(abs(ours - other).max() > 3 for other in others if name == "nearest")


def test_area_averages_and_the_others_sample_when_shrinking():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    sizes = (8, 8, (0.0,) * 3, (1.0,) * 3, "squash")
    assert (view(stripes, Preprocessing(*sizes)).pixels == 100).all()
    nearest = view(stripes, Preprocessing(*sizes, "nearest")).pixels
    assert set(np.unique(nearest)) <= {0, 200}
    pad = view(stripes[:32], Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, "pad", "nearest"))
    assert set(np.unique(pad.pixels)) <= {0, 200}
    crop = view(stripes[:, :32], Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, "crop", "nearest"))
    assert set(np.unique(crop.pixels)) <= {0, 200}
