"""Pictures listed by size: what headers say, and no more is read than they take."""

import io

import numpy as np
import pytest
from PIL import Image

from shardcam.engine.io import files
from shardcam.engine.run.order_by_size import START, by_size
from shardcam.engine.types import Sizes
from tests.readers.sources import opened, pictures, png, write_h5, write_idx, write_rec, write_tar


def encoded(height, width, form, orientation=1, noise=False, **options):
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256 if noise else 2, (height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, exif=exif, **options)
    return stream.getvalue()


@pytest.fixture
def counted(monkeypatch):
    """Bytes read of each file."""
    told = {}
    plain = files._read_part

    def read(path, offset, length):
        told[path] = told.get(path, 0) + length
        return plain(path, offset, length)

    monkeypatch.setattr(files, "_read_part", read)
    return told


def ordered(reader):
    steps = []
    samples, sizes = by_size(reader.samples(), reader, steps.append)
    assert steps == list(range(1, len(samples) + 1))
    assert [sample.index for sample in samples] == list(range(len(samples)))
    return [sample.key for sample in samples], sizes


def test_files_of_every_kind_by_the_size_that_is_shown(tmp_path, counted):
    data = {
        "a.jpg": encoded(40, 30, "JPEG"),
        "b.jpg": encoded(30, 40, "JPEG", orientation=6),  # shown as 40x30
        "c.png": encoded(30, 40, "PNG"),
        "d.webp": encoded(30, 39, "WEBP"),
        "e.tiff": encoded(30, 38, "TIFF"),
        "f.bmp": encoded(900, 50, "BMP"),
        "g.png": encoded(600, 500, "PNG", noise=True),
        "h.tiff": encoded(2, 99_000, "TIFF", noise=True, compression="tiff_lzw"),  # header last
        "i.jpg": b"no picture",
        "j.gif": encoded(30, 41, "GIF"),
    }
    for name, one in data.items():
        (tmp_path / name).write_bytes(one)
    keys, sizes = ordered(opened(str(tmp_path)))
    assert keys == [f"{name}" for name in (
        "i.jpg", "h.tiff", "e.tiff", "d.webp", "c.png", "j.gif", "a.jpg", "b.jpg", "g.png", "f.bmp",
    )]  # fmt: skip
    assert sizes.distinct == 8 and sizes.largest == (600, 500)
    assert counted[str(tmp_path / "g.png")] == START < len(data["g.png"])
    assert counted[str(tmp_path / "f.bmp")] == START < len(data["f.bmp"])
    assert counted[str(tmp_path / "h.tiff")] == START + len(data["h.tiff"])


def test_a_header_behind_much_else_is_found(tmp_path):
    plain = encoded(33, 44, "JPEG")
    comments = b"\xff\xfe\xff\xff" + bytes(65533)
    (tmp_path / "a.jpg").write_bytes(plain[:2] + 2 * comments + plain[2:])
    _, sizes = ordered(opened(str(tmp_path)))
    assert sizes == Sizes(1, (33, 44), 33 * 44)


def test_boxes_have_the_size_of_the_pixels_they_touch(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(40, 30, "PNG"))
    rows = ["path,x0,y0,x1,y1", "a.png,,,,", "a.png,0.5,1,9.5,20", "a.png,50,50,60,60"]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    keys, sizes = ordered(opened(str(tmp_path / "list.csv")))
    assert keys == ["a.png#50,50,60,60", "a.png#0.5,1,9.5,20", "a.png"]
    assert sizes == Sizes(2, (40, 30), 40 * 30 + 19 * 10)


def test_members_of_archives_and_records(tmp_path, counted):
    data = [encoded(600 - i, 500, "PNG", noise=True) for i in range(3)]
    write_tar(tmp_path / "a.tar", [(f"{i}.png", one) for i, one in enumerate(data)])
    write_rec(tmp_path / "a.rec", data, [0, 1, 2])
    for name in ("a.tar", "a.rec"):
        counted.clear()
        found, sizes = ordered(opened(str(tmp_path / name)))
        assert found == ["2", "1", "0"]
        assert sizes.largest == (600, 500)
        assert counted[str(tmp_path / name)] == 3 * START


def test_pictures_in_an_array_have_one_size_and_are_not_read(tmp_path, counted):
    stack = pictures(200, 12, 9)
    np.save(tmp_path / "a.npy", stack)
    write_h5(tmp_path / "a.h5", stack)
    write_idx(tmp_path, pictures(200, 12, 9, gray=True), range(200))
    for name in ("a.npy", "a.h5", "train-images-idx3-ubyte"):
        keys, sizes = ordered(opened(str(tmp_path / name)))
        assert (keys, sizes) == (sorted(keys), Sizes(1, (12, 9), 200 * 12 * 9))
    assert counted[str(tmp_path / "a.npy")] < 50 * 12 * 9 * 3 + START


def test_over_http_no_more_is_fetched(memory, monkeypatch):
    asked = []
    plain = type(memory).cat_file

    def cat_file(self, path, start=None, end=None, **more):
        asked.append((path, start, end))
        return plain(self, path, start, end, **more)

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    large, small = encoded(600, 500, "PNG", noise=True), png(pictures(1)[0])
    memory.pipe("/sizes/a.png", large)
    memory.pipe("/sizes/b.png", small)
    keys, sizes = ordered(opened("memory://sizes/"))
    assert keys == ["b.png", "a.png"] and sizes.largest == (600, 500)
    assert {(start, end) for _, start, end in asked} == {(0, START)}
