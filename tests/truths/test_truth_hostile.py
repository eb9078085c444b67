"""Truth files that lie: one line that names them, or counted rows, and the others are read."""

import gzip
import json
import os

import numpy as np
import pytest

from shardcam.engine.errors import SourceError
from shardcam.engine.truths.truth import UnreadableMask
from tests.truths.truths import (
    annotation,
    coco,
    found,
    levels,
    png,
    read,
    told,
    written,
    xml,
)

GOOD = "a.jpg,dog,1,2,3,4\n"
LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
POINTS = [1, 1, 3, 1, 3, 3]

ROWS = {  # a row beside a good one -> what is told
    "shares": ("a.jpg,dog,0.1,0.2,0.5,0.75", "1 region left out, in shares of the picture"),
    "shares, and all": ("a.jpg,dog,0,0,1,1\na.jpg,dog,-.01,.5,1,1", "2 regions left out, in"),
    "a side that is no number": ("a.jpg,dog,1,two,3,4", "1 region left out, a side of the box"),
    "NaN": ("a.jpg,dog,1,nan,3,4", "is no finite number, the first: a.jpg, row 2"),
    "infinity": ("a.jpg,dog,1,2,inf,4", "1 region left out, a side of the box is no finite number"),
    "a side of 400 digits": (f"a.jpg,dog,1,2,{'9' * 400},4", "a side of the box is no finite"),
    "inverted": ("a.jpg,dog,30,2,3,4", "1 region left out, x1 < x0 or y1 < y0"),
    "empty": ("a.jpg,dog,3,2,3,4", "1 region left out, the box is empty"),
    "outside": ("a.jpg,dog,300,2,310,4", "1 region left out, the box lies outside of the picture"),
    "before the picture": ("a.jpg,dog,-9,2,-1,4", "the box lies outside of the picture"),
    "a name nobody knows": ("a.jpg,unicorn,1,2,3,4", "the run does not know, or has several of, "
                            "the first: unicorn"),
    "a number beyond the classes": ("a.jpg,1000000000000,1,2,3,4", "the first: 1000000000000"),
    "no class": ("a.jpg,,1,2,3,4", "1 region left out, of classes that the run does not know"),
    "a picture of nobody": ("zz.jpg,dog,1,2,3,4", "1 name not that of a picture of the run, "
                            "the first: zz.jpg"),
    "the same again": ("a.jpg,dog,1.0,2,3,4", "1 region left out, given twice"),
    "too few columns": ("a.jpg,dog,1,2,3", "1 row left out, not of the form of the others"),
    "too many columns": ("a.jpg,dog,1,2,3,4,5", "the first: line 2: a.jpg,dog,1,2,3,4,5"),
    "a quote that is not closed": ('"a.jpg,dog,1,2,3,4', "1 row left out, not of the form"),
    "no name": (",dog,1,2,3,4", "1 name not that of a picture of the run"),
    "terminal escapes": ("a\x1b[31m.jpg,dog,1,2,3,4", "the first: a\\x1b[31m.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_lies_is_counted(tmp_path, name):
    row, expected = ROWS[name]
    (tmp_path / "t.csv").write_text(f"{GOOD}{row}\n{GOOD.replace('dog', 'cat')}")
    truth = read(tmp_path / "t.csv", "a.jpg")
    assert found(truth, "a.jpg") == [(1, (1, 2, 3, 4)), (0, (1, 2, 3, 4))]
    assert expected in told(truth)


def test_the_first_row_can_lie_too(tmp_path):
    (tmp_path / "t.csv").write_text(f"a.jpg,dog,1,2,3,four\n{GOOD}")
    truth = read(tmp_path / "t.csv", "a.jpg")
    assert found(truth, "a.jpg") == [(1, (1, 2, 3, 4))]
    assert "a side of the box is no finite number, the first: a.jpg, row 1" in told(truth)


def test_a_box_that_reaches_beyond_its_picture_is_cut(tmp_path):
    (tmp_path / "t.csv").write_text("a.jpg,dog,-5,2,1e300,104\n")
    truth = read(tmp_path / "t.csv", "a.jpg")
    assert found(truth, "a.jpg") == [(1, (0, 2, 200, 100))]
    assert "1 region cut where the picture ends, the first: a.jpg, row 1" in told(truth)
    truth = read(tmp_path / "t.csv", "a.jpg", size=(0, 0))  # its size is not known
    assert found(truth, "a.jpg") == [(1, (0, 2, 1e300, 104))]


FILES = {  # contents -> a part of the one line
    "empty": (b"", "empty; known is a table key,class,x0,y0,x1,y1"),
    "blank": (b" \n\n", "empty; known is"),
    "prose": (b"Dear reader,\nno boxes here.\n", "line 1: neither a table of boxes nor another"),
    "a picture": (png(levels([0, 1])), "a picture; known is"),
    "compressed": (gzip.compress(b"a.jpg,0,1,2,3,4"), "gzip: unpack it"),
    "zeros": (bytes(5000), "line 1: a NUL character: this is no text"),
    "UTF-16": ("a.jpg,0,1,2,3,4\n".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
    "Latin-1": (b"a.jpg,dog,1,2,3,4\n\xe9.jpg,dog,1,2,3,4\n", "line 2: not UTF-8"),
    "lines of a Mac": (b"a.jpg,dog,1,2,3,4\rb.jpg,dog,1,2,3,4\r", "lines end in CR alone"),
    "one endless line": (b"a.jpg,dog,1,2,3," + b"4" * (3 << 20), "longer than"),
    "shares of pictures": (b"a.jpg,dog,0.1,0.2,0.5,0.75\n", "shares of the picture; give pixels"),
    "shares, nearly": (b"a.jpg,dog,0.1,-0.01,0.5,1.02\n", "shares of the picture; give pixels"),
    "no picture of the run": (b"z.jpg,dog,1,2,3,4\n", "the first picture of the run is a.jpg"),
    "no class of the run": (b"a.jpg,yak,1,2,3,4\n", "or has several of, the first: yak"),
    "only a head": (b"key,class,x0,y0,x1,y1\n", "it is empty"),
    "JSON cut off": (b'{"images": [', "damaged JSON: Expecting value"),
    "JSON too deep": (b"[" * 100_000, "damaged JSON: it is nested too deep"),
    "JSON of results": (json.dumps([annotation()]).encode(), "not COCO's {"),
    "JSON of something else": (b'{"version": 1, "shapes": []}', "but version, shapes"),
    "JSON with lists missing": (b'{"images": {}, "annotations": 3, "categories": []}', "not COCO"),
    "XML that laughs": ((xml(before=LAUGHS)).encode(), "it declares entities, which are not read"),
    "XML that looks elsewhere": (xml(before=OUTSIDE).encode(), "it declares entities"),
    "XML cut off": (xml(("dog", 1, 1, 2, 2))[:-20].encode(), "unclosed token"),
    "XML too deep": (b"<annotation>" + b"<a>" * 100_000, "it is nested too deep"),
    "XML in no encoding": (b"<?xml version='1.0' encoding='zz'?><annotation/>", "unknown encoding"),
    "HTML": (b"<html><body>404</body></html>", "its root is <html> and not <annotation>"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_truth_is_refused_in_one_line(tmp_path, name):
    data, expected = FILES[name]
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "t", "a.jpg")
    assert str(tmp_path / "t") in str(caught.value) and expected in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


ANNOTATIONS = {  # beside a good one -> what is told
    "of no image": (annotation(image_id=9), "annotation 5: no image has the id 9"),
    "of an image that is a list": (annotation(image_id=[1]), "no image has the id [1]"),
    "of no category": (annotation(category_id=9), "of classes that the run does not know"),
    "without ids": ({"bbox": [1, 2, 3, 4]}, "an annotation without image_id or category_id"),
    "a box of three": (annotation(bbox=[1, 2, 3]), "a side of the box is no finite number"),
    "a box of words": (annotation(bbox="none"), "a side of the box is no finite number"),
    "no box at all": (annotation(bbox=None), "a side of the box is no finite number"),
    "a box of four digits": (annotation(bbox="1234"), "a side of the box is no finite number"),
    "a width below 0": (annotation(bbox=[50, 2, -3, 4]), "x1 < x0 or y1 < y0"),
    "a number of 500 digits": (annotation(bbox=[1, 2, 10**500, 4]), "no finite number"),
    "an id of 500 digits": (annotation(id=10**500, bbox=[1, 2, 0, 4]), "the box is empty"),
}
SHAPES = {  # of a good box, which is kept
    "two corners": ([[1, 1, 3, 3]], "annotation 5: a polygon is x, y of three corners or more"),
    "an odd number": ([[*POINTS, 1]], "a polygon is x, y of three corners or more"),
    "words": ([["a"] * 6], "a corner is not two numbers"),
    "NaN": ([[float("nan"), *POINTS[1:]]], "a corner is far outside of the picture"),
    "a corner at 1e300": ([[1e300, *POINTS[1:]]], "a corner is far outside of the picture"),
    "an endless outline": ([[0, 0, 4e6, 4e6, 0, 4e6] * 9], "the outline is too long"),
    "runs of another picture": ({"size": [9, 9], "counts": [81]}, "of another shape than the pic"),
    "runs of fewer pixels": ({"size": [100, 200], "counts": [5, 5]}, "are of 10 pixels"),
    "runs below 0": ({"size": [100, 200], "counts": [-1, 20001]}, "a run length below 0"),
    "runs in parts": ({"size": [100, 200], "counts": [0.5]}, "run lengths are whole numbers"),
    "runs of a huge picture": ({"size": [1 << 30, 1 << 30], "counts": [1 << 60]}, "a mask has at"),
    "text cut off": ({"size": [100, 200], "counts": "0P"}, "or are cut off"),
    "text of something else": ({"size": [100, 200], "counts": "\u00e9~"}, "not COCO's text"),
    "text of huge numbers": ({"size": [100, 200], "counts": "P" * 50 + "1"}, "is too long"),
    "no size": ({"counts": [20000]}, "run lengths without size"),
    "a number": (7, "no polygon"),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_an_annotation_that_lies_is_counted(tmp_path, name):
    bad, expected = ANNOTATIONS[name]
    truth = read(coco(tmp_path / "c.json", [bad, annotation(bbox=[1, 2, 2, 2])]), "a.jpg")
    assert found(truth, "a.jpg") == [(1, (1, 2, 3, 4))]
    assert expected in told(truth)


@pytest.mark.parametrize("name", SHAPES)
def test_a_mask_that_lies_is_counted(tmp_path, name):
    shape, expected = SHAPES[name]
    bad = annotation(bbox=[5, 5, 5, 5], segmentation=shape)
    truth = read(coco(tmp_path / "c.json", [bad, annotation(bbox=[1, 2, 2, 2])]), "a.jpg")
    assert expected in told(truth) and not truth.of("a.jpg").has_masks
    kept = [(1, (5, 5, 10, 10))] if name != "runs of another picture" else []
    assert found(truth, "a.jpg") == [*kept, (1, (1, 2, 3, 4))]


def test_images_and_categories_that_lie_are_counted(tmp_path):
    images = [
        {"id": 1, "file_name": "a.jpg", "width": -200, "height": 1e9},
        {"id": 1, "file_name": "b.jpg"},
        {"id": 2},
        {"id": None, "file_name": "b.jpg"},
        "b.jpg",
    ]
    categories = [{"id": 7, "name": "dog"}, {"id": 7, "name": "cat"}, {"name": "cat"}, 3]
    truth = read(coco(tmp_path / "c.json", [annotation()], images, categories), "a.jpg", "b.jpg")
    assert found(truth, "a.jpg") == [(1, (10, 20, 40, 60))] and truth.of("b.jpg") is None
    assert "7 rows left out, not of the form of the others" in told(truth)
    assert "1 size left out, not that of a picture, the first: a.jpg: -200x" in told(truth)


def test_images_of_one_name_are_taken_together(tmp_path):
    images = [{"id": i, "file_name": "a.jpg", "width": 200, "height": 100} for i in (1, 2.0)]
    objects = [annotation(), annotation(image_id=2, bbox=[1, 2, 2, 2])]
    truth = read(coco(tmp_path / "c.json", objects, images), "a.jpg")
    assert found(truth, "a.jpg") == [(1, (10, 20, 40, 60)), (1, (1, 2, 3, 4))]
    assert "1 image of a name that another one has: taken together" in told(truth)


def test_files_of_a_folder_that_lie_are_counted(tmp_path):
    """Links that lead out, pipes, huge and damaged files; the good one is read."""
    outside = tmp_path / "secret.xml"
    outside.write_text(xml(("dog", 1, 1, 2, 2)))
    folder = written(tmp_path / "ann", a__xml=xml(("dog", 1, 1, 2, 2)), bad__xml="<annotation>")
    (folder / "linked.xml").symlink_to(outside)
    (folder / "gone.xml").symlink_to(folder / "nowhere.xml")
    (folder / "._a.xml").write_bytes(b"\0\5\x16\7")  # of a Mac
    (folder / "outside").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.xml")
    with (folder / "huge.xml").open("wb") as stream:
        stream.truncate(1 << 30)
    truth = read(folder, "a.jpg", "linked.jpg")
    assert found(truth, "a.jpg") == [(1, (0, 0, 2, 2))] and truth.of("linked.jpg") is None
    assert "5 files left out, the first: bad.xml: no element found" in told(truth)
    assert "1 linked folder not entered, the first: outside" in told(truth)


PNGS = {
    "no PNG": (b"GIF89a", "1 mask left out, not readable, the first: b.png: not a PNG file"),
    "cut off": (png(levels([0, 1], [1, 0]))[:-20], "damaged: the image data is truncated"),
    "a bomb": (png(np.zeros((1, 1)))[:16] + b"\0\1\0\0\0\1\0\0", "damaged"),
    "16 bits": (png(np.zeros((2, 1)))[:24] + b"\x10", "damaged"),
    "of another shape": (png(levels([0, 1, 1])), "1 mask left out, of another shape"),
    "a class of nobody": (png(levels([77, 0], [0, 0])), "1 region left out, of classes that"),
}


@pytest.mark.parametrize("name", PNGS)
def test_a_png_mask_that_lies_is_counted(tmp_path, name):
    data, expected = PNGS[name]
    (tmp_path / "a.png").write_bytes(png(levels([0, 2], [0, 0])))
    (tmp_path / "b.png").write_bytes(data)
    truth = read(tmp_path, "a.jpg", "b.jpg", size=(2, 2))
    assert truth.of("a.jpg").labels == {1}
    assert not truth.of("b.jpg") or not truth.of("b.jpg").regions
    assert expected in told(truth)


def test_masks_with_colours_are_no_masks(tmp_path):
    from PIL import Image

    Image.fromarray(np.random.RandomState(0).randint(0, 256, (4, 4, 3), np.uint8)).save(
        tmp_path / "a.png"
    )
    with pytest.raises(SourceError, match=r"no PNG file in it is a mask; 1 mask .* has colours"):
        read(tmp_path, "a.jpg", size=(4, 4))


def test_a_mask_that_claims_a_huge_picture_is_not_decoded(tmp_path):
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SourceError, match="1048576x1048576 pixels; a mask has at most"):
        read(tmp_path, "a.jpg")


def test_masks_of_wsolevaluation_that_lie_are_counted(tmp_path):
    """Names that lead out, links, and files that are not there."""
    folder = tmp_path / "meta"
    written(
        folder,
        localization__txt="a.jpg,m.png,\na.jpg,../m.png\na.jpg,/etc/m.png\na.jpg,l.png\n"
        "a.jpg,none.png\na.jpg,black.png\n",
    )
    for place in (tmp_path, folder):
        (place / "m.png").write_bytes(png(levels([0, 255], [0, 0])))
    (folder / "black.png").write_bytes(png(levels([0, 0], [0, 0])))
    (folder / "l.png").symlink_to(tmp_path / "m.png")
    truth = read(folder, "a.jpg", size=(2, 2))
    assert len(truth.of("a.jpg").regions) == 1
    assert "4 masks left out, not readable, the first: ../m.png: it leads out" in told(truth)
    assert "1 mask left out, no pixel is set, the first: black.png" in told(truth)


def test_masks_that_are_elsewhere_can_be_named(tmp_path):
    written(tmp_path, localization__txt="a.jpg,none.png\n")
    with pytest.raises(SourceError, match="name their folder behind ::"):
        read(tmp_path, "a.jpg")
    with pytest.raises(
        SourceError, match="nowhere: no such folder; behind :: is that of the masks"
    ):
        read(f"{tmp_path}::nowhere", "a.jpg")


def test_a_mask_that_changes_while_it_is_used(tmp_path):
    (tmp_path / "a.png").write_bytes(png(levels([0, 2], [0, 0])))
    mask = read(tmp_path, "a.jpg", size=(2, 2)).of("a.jpg").regions[0].mask
    (tmp_path / "a.png").write_bytes(png(levels([0, 2])))
    with pytest.raises(UnreadableMask, match=r"a.png: of another size than before"):
        mask()
    (tmp_path / "a.png").unlink()
    with pytest.raises(UnreadableMask, match=r"a.png"):
        mask()


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda p: written(p, a__xml=xml(), b__png=""), "XML files (a.xml) and PNG files (b.png)"),
        (lambda p: written(p, a__json="{}"), "no truth in it, but a.json; known is"),
        (lambda p: written(p, images__txt="1 a.jpg", a__xml="x"), "no file in it is an annotation"),
        (lambda p: p / "nowhere", "nowhere: no such file or folder"),
        (lambda p: "s3://bucket/t.csv", "a truth is read from this machine; copy it here"),
        (lambda p: "x" * 5000, "File name too long"),
        (lambda p: p / "\0", "no such file or folder"),
        (lambda p: os.mkfifo(p / "pipe") or p / "pipe", "pipe: not a regular file"),
    ],
    ids=[
        "two kinds",
        "a file in it",
        "no annotation",
        "missing",
        "a URL",
        "a name that is too long",
        "NUL",
        "a pipe",
    ],
)
def test_a_place_without_truth_is_refused_in_one_line(tmp_path, make, expected):
    with pytest.raises(SourceError) as caught:
        read(make(tmp_path), "a.jpg")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_rows_of_cub_that_lie_are_counted(tmp_path):
    written(
        tmp_path,
        images__txt="1 a.jpg\n2\n",
        bounding_boxes__txt="1 1 2 3 4\n1 1 2 x 4\n9 1 2 3 4\n1 1 2 3\n",
        image_class_labels__txt="1 2\n2 two\n3 0\n",
    )
    truth = read(tmp_path, "a.jpg")
    assert found(truth, "a.jpg") == [(1, (1, 2, 4, 6))]
    assert "3 rows left out, not of the form of the others, the first: images.txt" in told(truth)
    assert "2 regions left out, a side of the box is no finite number" in told(truth)
