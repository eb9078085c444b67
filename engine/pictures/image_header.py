"""What an image file says about itself before it is decoded."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field

from PIL import ExifTags, Image

# Told apart by their content. TGA is last, for it has no mark of its own.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations
SIGNED = 2  # TIFF's sample format
_PNM = re.compile(rb"P[2356]" + 3 * rb"(?:\s|#[^\r\n]*)+(\d+)")  # width, height, largest value
_WHOLE = {3: "H", 4: "I"}  # kinds of whole numbers in EXIF that Pillow takes, too
_SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins


# Segments of a JPEG file, and how long they are at least, where Pillow refuses shorter ones.
_SCAN, _EXIF, _ADOBE, _TABLES, _FRAMES = 0xDA, 0xE1, 0xEE, 0xDB, (0xC0, 0xC1, 0xC2)
_END = b"\xff\xd9"
_SEGMENTS = {_SCAN: 0, _TABLES: 0, 0xC4: 0, 0xDD: 0, 0xFE: 0, **dict.fromkeys(_FRAMES, 6)}
_APPLICATIONS = range(0xE0, 0xF0)
_LONGER = 1 << 16  # than any segment: what Pillow looks into further
_LEAST = {b"JFIF": 7, b"Adob": 7, b"ICC_": 14, b"MPF\0": _LONGER, b"Phot": _LONGER}

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_OTHERS = {b"8BPS": "PSD", b"%PDF": "PDF", b"%!PS": "PostScript", b"\xff\x0a": "JPEG XL"}


class UndecodableImage(Exception):
    """A file that is not a usable image. `reason` is short, for grouping."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """The header of an image file."""

    form: str  # of FORMATS
    width: int  # as stored; of TIFF as shown, for its decoders turn it themselves
    height: int
    orientation: int = 1  # EXIF's, of all but TIFF files
    alpha: bool = False  # something may be transparent
    deep: bool = False  # more than 8 bits a channel, or values below 0
    rounded: bool = False  # the same, but its decoder gives 8
    usual: bool = field(default=False, compare=False)  # a whole JPEG file as cameras write them

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the picture as it is shown."""
        turned = self.orientation in TRANSPOSED
        return (self.width, self.height) if turned else (self.height, self.width)


def header_of(data: bytes) -> Header:
    """Read the header of an image file.

    Raises
    ------
    UndecodableImage
        It is none of `FORMATS`.
    """
    if plain := _plain_jpeg(data):
        return plain
    Image.MAX_IMAGE_PIXELS = None  # the bound is the caller's
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            form = "JPEG" if image.format == "MPO" else str(image.format)
            chunks = png_chunks(data) if form == "PNG" else {}
            width, height = image.size
            return Header(
                form,
                width,
                height,
                1 if form == "TIFF" else _orientation(_exif(image, chunks)),
                image.has_transparency_data,
                _is_deep(image, form, data),
                _is_rounded(image, form, data),
            )
    except Exception as error:  # header parsers raise nearly anything on hostile bytes
        known = "/".join(FORMATS)
        if other := _other_kind(data):
            raise UndecodableImage(
                "not an image", f"{other} files are not supported: convert it to one of {known}"
            ) from error
        raise UndecodableImage(
            "not an image",
            f"not a {known} file, or of an unsupported kind, or its header is damaged or cut off",
        ) from error


def usual_jpeg(data: bytes) -> Header | None:
    """The header of a JPEG file that is `usual` and not turned; None of all others."""
    header = _plain_jpeg(data)
    return header if header and header.usual and header.orientation == 1 else None


def _plain_jpeg(data: bytes) -> Header | None:
    """The header of a JPEG file of the usual, well-formed segments; None: ask Pillow.

    Pillow looks into each of them, which takes many times as long and holds Python's lock.
    """
    size, frame, exif, adobe, at = (0, 0), b"", b"", b"", 2
    if not data.startswith(b"\xff\xd8"):
        return None
    while (start := data[at : at + 4])[:1] == b"\xff" and len(start) == 4:
        end = at + 2 + int.from_bytes(start[2:], "big")
        marker, body = start[1], data[at + 4 : end]
        least = _LEAST.get(body[:4], 0) if marker in _APPLICATIONS else _SEGMENTS.get(marker, -1)
        if not 0 <= least <= len(body) == end - at - 4:
            return None
        if marker == _SCAN:
            usual = _is_usual(frame, adobe) and data.rfind(_END) > at
            header = Header("JPEG", *size, _orientation(exif), usual=usual)
            return header if min(size) > 0 else None
        if marker in _FRAMES:
            bits, height, width, layers = struct.unpack_from(">B2HB", body)
            if bits != 8 or layers not in (1, 3, 4) or size != (0, 0) or len(body) % 3:
                return None
            size, frame = (width, height), bytes([marker]) + body
        elif marker == _ADOBE and body.startswith(b"Adobe"):
            adobe = body
        elif marker == _TABLES and (len(body) % 65 or any(kind >> 4 for kind in body[::65])):
            return None
        elif marker == _EXIF and body.startswith(b"Exif\0\0"):
            exif += body[6:] if exif else body
        at = end
    return None


def _is_usual(frame: bytes, adobe: bytes) -> bool:
    """Whether it is baseline or progressive, and YCbCr whose colours are sampled as usual."""
    names, samples = frame[7::3], frame[8::3]  # samples: across and down, in half a byte each
    return (
        frame[:1] in (b"\xc0", b"\xc2")
        and samples[:1] in (b"\x11", b"\x12", b"\x21", b"\x22", b"\x41")
        and samples[1:] == b"\x11\x11"
        and names != b"RGB"
        and adobe[11:12] in (b"", b"\x01")
    )


def _other_kind(data: bytes) -> str:
    """What a file is that is none of `FORMATS`, by its first bytes; empty: something else."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "HEIF"
    found = [name for mark, name in _OTHERS.items() if data[:1024].lstrip().startswith(mark)]
    if not found and b"<svg" in data[:1024]:
        return "SVG"
    return found[0] if found else ""


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file by name, the first of each, without its pixels."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name != b"IDAT":
            chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 12 + size
    return chunks


def pnm_top(data: bytes) -> int:
    """The value of white that a PGM or PPM file states; 0 of other kinds."""
    found = _PNM.match(data)
    return int(found[3]) if found else 0


def jpeg2000_bits(data: bytes) -> int:
    """Bits of the first channel of a JPEG 2000 file."""
    return (data[data.index(_SIZ) + 42] & 127) + 1


def _is_deep(image: Image.Image, form: str, data: bytes) -> bool:
    if form == "PNG":
        return data[24] == 16
    if form == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
        signed = image.mode == "L" and tags.get(ExifTags.Base.SampleFormat, ())[:1] == (SIGNED,)
        return image.mode[0] in "IF" or signed or (image.mode in ("RGB", "RGBA") and bits > 8)
    if form == "PPM":
        return image.mode == "F" or pnm_top(data) > 255
    return form == "JPEG2000" and image.mode == "I;16"


def _is_rounded(image: Image.Image, form: str, data: bytes) -> bool:
    if form == "JPEG2000":
        return image.mode != "I;16" and jpeg2000_bits(data) > 8
    at = data.find(b"av1C") if form == "AVIF" else -1
    return at >= 0 and data[at + 6] & 0x40 != 0  # high_bitdepth of the configuration box


def _exif(image: Image.Image, chunks: dict[bytes, bytes]) -> bytes:
    """The EXIF block of a file; PNG files have it anywhere, old ones as hexadecimal text."""
    exif: bytes = image.info.get("exif") or chunks.get(b"eXIf", b"")
    text = image.info.get("Raw profile type exif")
    if exif or not isinstance(text, str):
        return exif
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _orientation(exif: bytes) -> int:
    """The orientation that an EXIF block states, however damaged its other tags; 1 if none.

    Pillow's own reader warns of damaged tags, and takes XMP's orientation too.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        mark, start = struct.unpack_from(f"{order}2xHI", tiff)
        if mark != 42:
            return 1
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}2H", tiff, at)
            if tag == ExifTags.Base.Orientation and kind in _WHOLE:
                (value,) = struct.unpack_from(order + _WHOLE[kind], tiff, at + 8)
                return int(value)
    except struct.error:
        pass
    return 1
