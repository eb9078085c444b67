"""Files of truth with a few bytes changed: they are read, or refused in one line."""

import random

import pytest

from shardcam.engine.errors import SourceError
from tests.truths.truths import annotation, coco, levels, png, read, told, written, xml

TOKENS = (b"nan", b"-1", b"1e400", b'"', b",", b"\n", b"\0", b"<", b"&x;", b"{", b"]", b"null",
          b"9" * 30, b"\xff", b"[]", b"{}")  # fmt: skip


def table(folder):
    return written(folder, t__csv="key,class,x0,y0,x1,y1\na.jpg,dog,1,2,3,4\nb.jpg,0,5,6,7,8\n")


def json(folder):
    shapes = ([[1, 1, 3, 1, 3, 3]], {"size": [100, 200], "counts": [10, 20, 19970]})
    coco(folder / "c.json", [annotation(segmentation=shape) for shape in shapes])


def voc(folder):
    written(folder, a__xml=xml(("dog", 1, 2, 3, 4), ("cat", 5, 6, 7, 8)))


def cub(folder):
    boxes = "1 1 2 3 4\n2 1 2 3 4\n"
    labels = "1 1\n2 2\n"
    written(folder, images__txt="1 a.jpg\n2 b.jpg\n", bounding_boxes__txt=boxes)
    written(folder, image_class_labels__txt=labels)


def wsol(folder):
    (folder / "m.png").write_bytes(png(levels([0, 255], [255, 0])))
    written(folder, localization__txt="a.jpg,m.png,m.png\nb.jpg,1,2,3,4\n")
    written(folder, class_labels__txt="a.jpg,1\n", image_sizes__txt="a.jpg,200,100\n")


def masks(folder):
    (folder / "a.png").write_bytes(png(levels([0, 1, 2, 255], [3, 1, 0, 0]), palette=True))


@pytest.mark.parametrize("make", [table, json, voc, cub, wsol, masks])
def test_changed_bytes(tmp_path, make):
    chance = random.Random(make.__name__)
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        make(folder)
        files = sorted(folder.iterdir())
        file = chance.choice(files)
        data = bytearray(file.read_bytes())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.choice((0, 1, 9))] = chance.choice(TOKENS)
        file.write_bytes(data)
        try:
            truth = read(files[0] if make in (table, json) else folder, "a.jpg", "b.jpg")
        except SourceError as error:
            assert "\n" not in str(error)
            continue
        assert told(truth)
        for one in filter(None, map(truth.of, ("a.jpg", "b.jpg"))):
            assert one.ignored((5, 7)).shape == (5, 7)
            for label in one.labels:
                assert one.mask(label, (5, 7)).shape == (5, 7)
                assert one.boxes(label).shape[1] == 4
