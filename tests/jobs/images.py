"""Folders of generated images, some of them broken in known ways."""

import io

import numpy as np
from PIL import Image

BROKEN = ("empty", "not an image", "undecodable", "oversized")


def jpeg(rng, height, width):
    """A photograph-like JPEG: smooth blobs."""
    coarse = Image.fromarray(rng.randint(0, 256, (6, 8, 3), np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def broken(kind, rng):
    """Bytes that fail for the given reason."""
    if kind == "oversized":
        stream = io.BytesIO()
        Image.new("1", (3000, 3000)).save(stream, "PNG")
        return stream.getvalue()
    return {"empty": b"", "not an image": rng.bytes(500), "undecodable": jpeg(rng, 90, 90)[:-700]}[
        kind
    ]


def make_folder(root, count, bad=0, seed=0):
    """`count` image files, `bad` of them broken; returns {key: reason} of the broken ones."""
    rng = np.random.RandomState(seed)
    reasons = {}
    chosen = set(rng.choice(count, bad, replace=False).tolist())
    for i in range(count):
        key = f"group{i % 3}/picture {i:04d}.jpg"
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        if i in chosen:
            reasons[key] = BROKEN[len(reasons) % len(BROKEN)]
            (root / key).write_bytes(broken(reasons[key], rng))
        else:
            (root / key).write_bytes(jpeg(rng, *rng.randint(80, 400, 2)))
    return reasons
