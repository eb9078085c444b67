"""Pictures of more than 8 bits a channel, and which of their values are black and white.

``auto`` takes what the file states: the depth of a JPEG 2000 file, the white of a PGM or PPM
file, the bits of a TIFF file or its MaxSampleValue of the form 2**n - 1, the chunk sBIT of a PNG
file. A file that states 16 bits often holds fewer, so then it is the smallest of 8, 10, 12, 14
and 16 bits that holds the picture's largest value; floats may also be from 0 to 1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ExifTags import Base

from shardcam.engine.pictures.image_header import (
    SIGNED,
    UndecodableImage,
    jpeg2000_bits,
    png_chunks,
    pnm_top,
)
from shardcam.engine.types import U1, Decoding

Values = npt.NDArray[Any]
TOPS = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
_WHITE_IS_ZERO, _ASSOCIATED, _SEPARATE = (0,), (1,), (2,)  # as TIFF's tags have them


@dataclass(frozen=True)
class _Stored:
    """The values of a file, RGB or gray."""

    values: Values  # (height,width) or (height,width,3)
    full: tuple[float, float]  # what the file could hold: its black and white
    stated: tuple[int, ...] = ()  # tops that the file states, to be tried before others
    alpha: Values | None = None  # (height,width)
    associated: bool = False  # the colours were multiplied by alpha
    inverted: bool = False  # black is the largest value


def deep_picture(data: bytes, form: str, decoding: Decoding) -> U1 | None:
    """Decode a deep file to (height,width,3) of 8 bits; None if it cannot be decoded.

    Integers keep the upper 8 bits of their range, floats are rounded.

    Raises
    ------
    UndecodableImage
        It cannot be told which values are black and white.
    """
    try:
        stored = _READ[form](data)
    except UndecodableImage:
        raise
    except Exception:  # decoders raise nearly anything on hostile bytes
        return None
    values = stored.values
    alpha = None if stored.alpha is None else _eight_bits(stored.alpha, (0, _top(stored.alpha)))
    if stored.associated and stored.alpha is not None:
        values = _divided(values, stored.alpha)
    pixels = _eight_bits(values, _range(stored, values, decoding.depth_range))
    if stored.inverted:
        pixels = np.invert(pixels)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if decoding.background is None or alpha is None:
        return np.ascontiguousarray(pixels)
    return over(pixels, alpha, decoding.background)


def over(pixels: U1, alpha: U1, background: tuple[int, ...]) -> U1:
    """(H,W,3) with an opacity (H,W), laid over a colour."""
    opacity = alpha[..., None].astype(np.uint16)
    blended = pixels * opacity + np.array(background, np.uint16) * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def _range(
    stored: _Stored, values: Values, wanted: tuple[float, float] | str
) -> tuple[float, float]:
    """Black and white."""
    if isinstance(wanted, tuple):
        return wanted
    if wanted == "full":
        return stored.full
    floats = values.dtype.kind == "f"
    known = values[np.isfinite(values)] if floats else values
    if not known.size:
        raise UndecodableImage("undecodable", "none of its values is a number")
    low, high = known.min(), known.max()
    tops = (1, *TOPS) if floats else (*stored.stated, *TOPS)
    if low < 0 or high > max(tops):
        raise UndecodableImage(
            "range not known",
            f"values from {low:g} to {high:g}: say which of them are black and white with "
            "--depth-range LOW,HIGH",
        )
    return 0, next(top for top in tops if high <= top)


def _top(values: Values) -> int:
    return next((top for top in TOPS if values.max() <= top), TOPS[-1])


def _eight_bits(values: Values, black_white: tuple[float, float]) -> U1:
    low, high = black_white
    scaled = values.astype(np.float32)
    if values.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=low, posinf=high, neginf=low)
    scaled -= low
    if values.dtype.kind == "f":
        scaled *= 255 / (high - low)
        np.rint(scaled, out=scaled)
    else:
        scaled *= 256 / (high - low + 1)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def _divided(values: Values, alpha: Values) -> Values:
    """Colours as they were before they were multiplied by alpha; black where that was 0."""
    top = _top(alpha)
    colours = values * (top / np.maximum(alpha, 1, dtype=np.float32))[..., None]
    return np.where(alpha[..., None] > 0, colours.clip(0, top), 0).astype(values.dtype)


def _unchanged(data: bytes) -> tuple[Values, Values | None]:
    """Colours (height,width[,3]), and alpha if there is a fourth channel."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode it")
    if values.ndim == 2:
        return values, None
    return values[..., 2::-1], values[..., 3] if values.shape[2] == 4 else None


def _png(data: bytes) -> _Stored:
    """sBIT counts bits that matter: by the standard of values scaled up to 16, by custom not."""
    values, alpha = _unchanged(data)
    chunks = png_chunks(data)
    if values.ndim == 2 and b"tRNS" in chunks:  # OpenCV sees that of colours only
        alpha = np.where(values == int.from_bytes(chunks[b"tRNS"], "big"), 0, TOPS[-1])
    bits = max(chunks.get(b"sBIT", b""), default=0)
    stated = (2**bits - 1, TOPS[-1]) if 0 < bits <= 16 else ()
    return _Stored(values, (0, TOPS[-1]), stated, alpha)


def _pnm(data: bytes) -> _Stored:
    if data.startswith(b"Pf"):
        with Image.open(io.BytesIO(data), formats=("PPM",)) as image:
            return _Stored(np.asarray(image), (0, 1))
    values, _ = _unchanged(data + b"\n")  # which ends the last number of a file of text
    top = pnm_top(data)
    return _Stored(values, (0, top), (top,) if top < TOPS[-1] else ())


def _jpeg2000(data: bytes) -> _Stored:
    """By Pillow, which scales up to 16 bits: one flipped bit can crash OpenCV's decoder."""
    bits = jpeg2000_bits(data)
    with Image.open(io.BytesIO(data), formats=("JPEG2000",)) as image:
        values = np.asarray(image) >> (16 - bits)
    top = 2**bits - 1
    return _Stored(values, (0, top), (top,) if bits < 16 else ())


def _tiff(data: bytes) -> _Stored:
    """Gray by Pillow, colours by OpenCV: Pillow would give 8 of their 16 bits."""
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        tags = {
            tag: value if isinstance(value, tuple) else (value,)
            for tag, value in image.tag_v2.items()
        }
        signed = tags.get(Base.SampleFormat, ())[:1] == (SIGNED,)
        gray, alpha = image.mode[0] in "IFL", None
        if gray:
            image.info.pop("xmp", None)  # Pillow would turn it by that, too
            values: Values = np.asarray(image)
            if image.mode == "L":
                values = values.view(np.int8)
        elif tags.get(Base.PlanarConfiguration) == _SEPARATE:
            raise UndecodableImage(
                "unsupported",
                "TIFF files of 16-bit colours in separate planes cannot be read; save them with "
                "the planar configuration 'contiguous', or with 8 bits",
            )
        else:
            values, fourth = _unchanged(data)
            alpha = fourth if image.mode == "RGBA" else None
    bits = max(tags[Base.BitsPerSample])
    if values.dtype == np.int32 and bits == 32 and not signed:
        values = values.view(np.uint32)
    full: tuple[float, float] = (0, 2**bits - 1)
    if values.dtype.kind == "f":
        full = (0, 1)
    elif signed:
        full = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    top = max(tags.get(Base.MaxSampleValue, (0,))) if bits == 16 else 2**bits - 1
    stated = (top,) if TOPS[0] <= top < TOPS[-1] and top & (top + 1) == 0 else ()
    return _Stored(
        values,
        full,
        stated,
        alpha,
        tags.get(Base.ExtraSamples, ())[:1] == _ASSOCIATED,
        tags.get(Base.PhotometricInterpretation) == _WHITE_IS_ZERO,
    )


_READ = {"PNG": _png, "PPM": _pnm, "JPEG2000": _jpeg2000, "TIFF": _tiff}
