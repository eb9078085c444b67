"""Damaged image files of every kind, and what becomes of each in a process of its own.

``python -m tests.faults.damaged_images [COUNT [SEED]]`` prints, by kind of file, how many decode to
the same pixels, to others with and without the flag, fail, or end the process; then the files that
this decoder and Pillow judge differently.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from shardcam.engine.workers.threads import limit_threads

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 96, 128
SAME, DIFFERS, FLAGGED, FAILED, DIED = "same", "differs", "flagged", "failed", "died"


def picture(seed: int) -> Image.Image:
    """Smooth ground, texture and edges, so that every part of a file carries pixels."""
    random = np.random.RandomState(seed)
    small = random.randint(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        corner = random.randint(0, HEIGHT, 2)
        box = (*corner.tolist(), *(corner + random.randint(4, 40, 2)).tolist())
        draw.ellipse(box, fill=tuple(random.randint(0, 256, 3).tolist()))
    noise = random.randint(-12, 13, (HEIGHT, WIDTH, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def whole_files() -> dict[str, bytes]:
    """Undamaged files, by their names."""
    import cv2  # after `limit_threads`, which silences it

    image, later = picture(0), [picture(1), picture(2)]
    alpha = image.copy()
    alpha.putalpha(image.convert("L"))
    gray, palette, bilevel = image.convert("L"), image.quantize(64), image.convert("1")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    _, deep_colours = cv2.imencode(".tif", np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a picture", 6
    animated = {"save_all": True, "append_images": later}
    lossless = {"lossless": True}
    return {
        "baseline.jpg": saved(image, "JPEG", quality=90),
        "turned.jpg": saved(image, "JPEG", exif=exif, icc_profile=bytes(range(200))),
        "progressive.jpg": saved(image, "JPEG", quality=90, progressive=True),
        "restarts.jpg": saved(image, "JPEG", restart_marker_rows=1),
        "gray.jpg": saved(gray, "JPEG"),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "rgb.png": saved(image, "PNG", icc_profile=bytes(range(200)), exif=exif),
        "alpha.png": saved(alpha, "PNG"),
        "palette.png": saved(palette, "PNG", transparency=3),
        "deep.png": saved(deep, "PNG"),
        "animated.png": saved(image, "PNG", **animated),
        "lossy.webp": saved(image, "WEBP", quality=90),
        "lossless.webp": saved(image, "WEBP", **lossless),
        "alpha.webp": saved(alpha, "WEBP", exif=exif),
        "animated.webp": saved(image, "WEBP", **animated, **lossless),
        "plain.tif": saved(image, "TIFF"),
        "lzw.tif": saved(image, "TIFF", compression="tiff_lzw"),
        "lzw-predictor.tif": saved(image, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        "deflate.tif": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": saved(gray, "TIFF", compression="packbits"),
        "jpeg.tif": saved(image, "TIFF", compression="jpeg"),
        "fax.tif": saved(bilevel, "TIFF", compression="group4"),
        "palette-lzw.tif": saved(palette, "TIFF", compression="tiff_lzw"),
        "alpha-lzw.tif": saved(alpha, "TIFF", compression="tiff_lzw"),
        "deep-lzw.tif": saved(deep, "TIFF", compression="tiff_lzw"),
        "deep-rgb-lzw.tif": deep_colours.tobytes(),
        "palette.gif": saved(palette, "GIF"),
        "animated.gif": saved(image, "GIF", **animated),
        "rgb.bmp": saved(image, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "rgb.ppm": saved(image, "PPM"),
        "runs.tga": saved(image, "TGA", compression="tga_rle"),
        "rgb.jp2": saved(image, "JPEG2000"),
        "rgb.avif": saved(image, "AVIF"),
    }


def _flip(data: bytearray, random: np.random.RandomState, low: int, high: int, count: int) -> None:
    for _ in range(count):
        data[random.randint(low, high)] ^= 1 << random.randint(8)


def damage(data: bytes, random: np.random.RandomState) -> tuple[str, bytes]:
    """What was done, and the file after it."""
    new, size = bytearray(data), len(data)
    at = random.randint(size)
    run = 1 + random.randint(max(2, min(200, size // 4)))
    kind = random.choice(
        ["bit", "bit", "bits", "byte", "noise", "zeros", "cut", "gone", "twice", "swap", "header",
         "header", "checked"]
    )  # fmt: skip
    if kind == "bit":
        _flip(new, random, 0, size, 1)
    elif kind == "bits":
        _flip(new, random, size // 8, size, random.randint(2, 9))
    elif kind == "byte":
        new[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == "noise":
        new[at : at + run] = random.bytes(len(new[at : at + run]))
    elif kind == "zeros":
        new[at : at + run] = bytes(len(new[at : at + run]))
    elif kind == "cut":
        del new[at:]
    elif kind == "gone":
        del new[at : at + run]
    elif kind == "twice":
        new[at:at] = new[at : at + run]
    elif kind == "swap":
        to = random.randint(size)
        new[at : at + run], new[to : to + run] = data[to : to + run], data[at : at + run]
    elif kind == "header":
        for _ in range(random.randint(1, 4)):
            new[random.randint(min(size, 200))] = random.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
    elif data.startswith(b"\x89PNG"):
        new = _with_checksums(new, random)
    else:
        _flip(new, random, size // 4, size, 2)
    return kind, bytes(new)


def _with_checksums(data: bytearray, random: np.random.RandomState) -> bytearray:
    """A PNG file one of whose chunks is damaged, checksum and all."""
    chunks, at = [], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        chunks.append([bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : end - 4])])
        at = end
    filled = [body for _, body in chunks if body]
    body = filled[random.randint(len(filled))]
    _flip(body, random, 0, len(body), random.randint(1, 4))
    new = data[:8]
    for kind, body in chunks:
        new += len(body).to_bytes(4, "big") + kind + body
        new += zlib.crc32(kind + body).to_bytes(4, "big")
    return new


def write_files(folder: Path, count: int, seed: int = 0) -> None:
    """Damaged files, as many of each kind, called ``NUMBER-DAMAGE-NAME``."""
    random = np.random.RandomState(seed)
    files = list(whole_files().items())
    for number in range(count):
        name, data = files[number % len(files)]
        while True:
            kind, new = damage(data, random)
            if new != data:
                break
        (folder / f"{number:05d}-{kind}-{name}").write_bytes(new)


def _ours(data: bytes) -> tuple[str, bytes]:
    from shardcam.engine.pictures.decode_image import decode
    from shardcam.engine.pictures.image_header import UndecodableImage
    from shardcam.engine.types import Decoding, Flag

    try:
        picture = decode(data, Decoding(max_pixels=10**7))
    except UndecodableImage as error:
        return FAILED, error.reason.encode()
    return FLAGGED if picture.flags & Flag.DAMAGED else DIFFERS, picture.pixels.tobytes()


def _pillows(data: bytes) -> tuple[str, bytes]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return DIFFERS, image.convert("RGB").tobytes()
    except Exception as error:
        return FAILED, str(error).encode()


def judge(decoder: str, folder: Path, record: Path) -> None:
    """Decode every file that the record does not hold, in this process, and note what came."""
    limit_threads(1)
    decode = {"ours": _ours, "pillow": _pillows}[decoder]
    whole = {name: decode(data)[1] for name, data in whole_files().items()}
    known = len(record.read_text().splitlines()) if record.exists() else 0
    with record.open("a") as lines:
        for path in sorted(folder.iterdir())[known:]:
            lines.write(f"{path.name} ")
            lines.flush()
            outcome, pixels = decode(path.read_bytes())
            if outcome == DIFFERS and pixels == whole[path.name.split("-", 2)[2]]:
                outcome = SAME
            lines.write(f"{outcome}\n")
            lines.flush()


def outcomes(decoder: str, folder: Path, record: Path) -> tuple[dict[str, str], str]:
    """What came of every file, by its name, and what the processes wrote to their terminal."""
    told = ""
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.damaged_images", decoder, folder, record],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        told += done.stderr
        if done.returncode == 0:
            return dict(line.split() for line in record.read_text().splitlines()), told
        if not record.exists() or record.read_text().endswith("\n"):
            raise RuntimeError(done.stderr)  # not by a file
        with record.open("a") as lines:
            lines.write(f"{DIED}\n")


def main(count: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, "files")
        folder.mkdir()
        write_files(folder, count, seed)
        ours, told = outcomes("ours", folder, Path(base, "ours.txt"))
        pillows, _ = outcomes("pillow", folder, Path(base, "pillow.txt"))
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for name, outcome in ours.items():
        by_kind[name.split("-", 2)[2]][outcome] += 1
        by_kind[name.split("-", 2)[2]]["pillow " + pillows[name]] += 1
    columns = [SAME, DIFFERS, FLAGGED, FAILED, DIED]
    columns += [f"pillow {outcome}" for outcome in (SAME, DIFFERS, FAILED)]
    print("|", " | ".join(["file", *columns]), "|")
    total: Counter[str] = Counter()
    for kind, counts in by_kind.items():
        total += counts
        print("|", " | ".join([kind, *(str(counts[column]) for column in columns)]), "|")
    print("|", " | ".join(["all", *(str(total[column]) for column in columns)]), "|")
    for name, outcome in ours.items():
        theirs = pillows[name]
        if (outcome in (SAME, DIFFERS)) != (theirs in (SAME, DIFFERS)):
            print(f"{name}: {outcome}, Pillow {theirs}")
    print(f"{len(told.splitlines())} lines on the terminal")


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["pillow"]):
        judge(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(*(int(argument) for argument in [*sys.argv[1:], "2000", "0"][:2]))
