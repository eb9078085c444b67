"""Transparency is ignored, or laid over a colour, the same way in every format: against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.pictures.decoded import decoded
from tests.pictures.picture_files import deep_png, saved, tiff

COLOURS = np.random.RandomState(1).randint(0, 256, (24, 40, 4)).astype(np.uint8)
COLOURS[:4, :, 3], COLOURS[4:8, :, 3] = 0, 255
RGBA = Image.fromarray(COLOURS)
BACKGROUND = (10, 130, 250)


PALETTE = RGBA.convert("RGB").quantize(64)
MULTIPLIED = COLOURS.copy()
MULTIPLIED[..., :3] = COLOURS[..., :3] * (COLOURS[..., 3:] / 255.0)
FILES = {
    "PNG": saved(RGBA, "PNG"),
    "PNG, gray": saved(RGBA.convert("LA"), "PNG"),
    "PNG, palette": saved(PALETTE, "PNG", transparency=bytes(range(0, 256, 4))),
    "PNG, a colour": saved(
        RGBA.convert("RGB"), "PNG", transparency=tuple(COLOURS[9, 9, :3].tolist())
    ),
    "WebP": saved(RGBA, "WEBP", lossless=True, exact=True),
    "WebP, animated": saved(RGBA, "WEBP", save_all=True, append_images=[PALETTE], lossless=True),
    "TIFF": saved(RGBA, "TIFF"),
    "TIFF, gray": saved(RGBA.convert("LA"), "TIFF"),
    "TIFF, associated": tiff(MULTIPLIED, photometric="rgb", extrasamples=["assocalpha"]),
    "TIFF, no alpha": tiff(COLOURS, photometric="rgb", extrasamples=["unspecified"]),
    "GIF": saved(PALETTE, "GIF", transparency=5),
    "JPEG 2000": saved(RGBA, "JPEG2000"),
    "AVIF": saved(RGBA, "AVIF"),
    "TGA": saved(RGBA, "TGA"),
    "BMP": saved(RGBA, "BMP"),
    "JPEG": saved(Image.new("RGB", (8, 8), (1, 2, 3)), "JPEG"),
}


@pytest.mark.parametrize("name", FILES)
def test_transparency(name):
    with Image.open(io.BytesIO(FILES[name])) as image:
        mode = "RGBA" if isinstance(image.info.get("transparency"), bytes) else "RGB"
        theirs = np.asarray(image.convert(mode))[..., :3]
        canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        laid = Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    np.testing.assert_array_equal(decoded(FILES[name]), theirs)
    found = decoded(FILES[name], background=BACKGROUND).astype(int)
    assert abs(found - np.asarray(laid)).max() <= 1


DEEP = COLOURS.astype(np.uint16) * 257
ASSOCIATED = (DEEP * (DEEP[..., 3:] / 65535.0)).astype(np.uint16)
ASSOCIATED[..., 3] = DEEP[..., 3]
DEEP_FILES = {  # and what of the colours they hold
    "PNG": (deep_png(DEEP, 6), COLOURS),
    "PNG, gray": (deep_png(DEEP[..., [0, 3]], 4), COLOURS[..., [0, 0, 0, 3]]),
    "TIFF": (tiff(DEEP, photometric="rgb", extrasamples=["unassalpha"]), COLOURS),
    "TIFF, associated": (tiff(ASSOCIATED, photometric="rgb", extrasamples=["assocalpha"]), COLOURS),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_transparency_of_deep_pictures(name):
    data, colours = DEEP_FILES[name]
    visible = colours[..., 3:] > 8 if "associated" in name else True  # what was multiplied is lost
    assert abs(np.where(visible, decoded(data) - colours[..., :3].astype(int), 0)).max() <= 1
    canvas = Image.new("RGBA", colours.shape[1::-1], (*BACKGROUND, 255))
    laid = Image.alpha_composite(canvas, Image.fromarray(colours)).convert("RGB")
    found = decoded(data, background=BACKGROUND).astype(int)
    assert abs(found - np.asarray(laid)).max() <= 1


def test_one_deep_gray_is_transparent():
    data = deep_png(DEEP[..., 0], 0, (b"tRNS", DEEP[3, 3, :1].astype(">u2").tobytes()))
    found = decoded(data, background=BACKGROUND)
    hidden = COLOURS[..., 0] == COLOURS[3, 3, 0]
    assert (found[hidden] == BACKGROUND).all()
    np.testing.assert_array_equal(found[~hidden], np.stack([COLOURS[..., 0][~hidden]] * 3, 1))
