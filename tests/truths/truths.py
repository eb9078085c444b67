"""What tests of truths share: a run's pictures and classes, and small files."""

import json
import struct
import zlib

import numpy as np

from shardcam.engine.truths.read_truth import read_truth
from shardcam.engine.truths.truth_classes import TruthClasses
from shardcam.engine.truths.truth_pictures import Pictures

NAMES = {0: "cat", 1: "dog", 2: "traffic light"}


def pictures(*keys, size=(100, 200), label=0):
    labels = np.full(len(keys), label, np.int32)
    return Pictures(keys, labels, np.tile(np.array(size, np.int32), (len(keys), 1)))


def read(source, *keys, size=(100, 200), label=0, names=NAMES, count=None):
    """The truth of a run of these keys, with pictures of height 100 and width 200."""
    classes = TruthClasses(len(names) if count is None else count, dict(names))
    return read_truth(str(source), pictures(*keys, size=size, label=label), classes)


def found(truth, key):
    """Classes and boxes of a picture."""
    return [(r.label, r.box) for r in truth.of(key).regions]


def told(truth):
    assert {note.kind for note in truth.notes()} == {"truth"}
    return "\n".join(note.text for note in truth.notes())


def written(folder, **texts):
    """Files by their names, with ``__`` for a dot."""
    for name, text in texts.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def coco(path, annotations, images=None, categories=None):
    """A COCO file of a picture a.jpg, 200x100, and the category 7 = dog, if none are given."""
    images = images or [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}]
    categories = categories or [{"id": 7, "name": "dog"}]
    stored = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(stored))
    return path


def annotation(**fields):
    return {"id": 5, "image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]} | fields


def xml(*objects, size=(100, 200), before="", root="annotation"):
    """An annotation of objects (name, xmin, ymin, xmax, ymax[, more])."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    text = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    for name, *box in objects:
        inside = "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box))
        more = "".join(box[4:])
        text += f"<object><name>{name}</name>{more}<bndbox>{inside}</bndbox></object>"
    return f"{before}<{root}><filename>lies.jpg</filename>{text}</{root}>"


def png(levels, palette=False, depth=8):
    """A PNG file of gray levels or of colours' numbers."""
    height, width = levels.shape
    header = struct.pack(">IIBBBBB", width, height, depth, 3 if palette else 0, 0, 0, 0)
    bits = np.unpackbits(levels[..., None].astype(np.uint8), axis=2)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    colours = [(b"PLTE", bytes(768))] if palette else []
    chunks = [(b"IHDR", header), *colours, (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def levels(*rows):
    return np.array(rows, np.uint8)
