"""Images that metrics are tested with."""

import numpy as np

from shardcam.engine.evaluation.metric import ImageRows, Merged
from shardcam.engine.truths.truth import ImageTruth, Region


def rows_of(truth, *, target=None, size=(375, 500), view=(224, 224), crop=None, **more):
    """n images of one size, explained for class 0 unless `target` (n,K) says otherwise."""
    n = len(truth)
    target = np.zeros((n, 1), np.int32) if target is None else np.array(target, np.int32)
    values = {
        "sample": np.arange(n),
        "keys": tuple(f"{i}.jpg" for i in range(n)),
        "label": target[:, 0].copy(),
        "target": target,
        "score": np.full(target.shape, 0.5, np.float32),
        "top_class": np.tile(np.arange(5, dtype=np.int32), (n, 1)),
        "crop": np.tile(np.array(crop or (0, 0, *size), np.float64), (n, 1)),
        "image_size": np.tile(np.array(size, np.int32), (n, 1)),
        "view_size": view,
        "truth": tuple(truth),
    }
    return ImageRows(**(values | more))


def boxes(*found, label=0):
    return ImageTruth(tuple(Region(label, tuple(map(float, box))) for box in found))


def masked(mask, label=0, ignore=None):
    kept = None if ignore is None else lambda: ignore
    return ImageTruth((Region(label, None, lambda: mask),), kept)


def merged(rows, measured):
    """All that was measured of one shard."""
    kept = np.isfinite(measured.value)
    columns = {name: column[kept] for name, column in measured.columns.items()}

    def column(name):
        for start in range(0, max(kept.sum(), 1), 3):
            yield columns[name][start : start + 3]

    values = measured.value[kept].astype(np.float64)
    return Merged(values, rows.target[kept], measured.state, column)


def figure(metric, maps, rows):
    return metric.figure(merged(rows, metric.measure(maps, rows)))


def golden_maps():
    """(8,1,7,7) float64: two hills each, their places and widths given by formulas."""
    y, x = np.mgrid[:7, :7].astype(np.float64)
    return np.array(
        [
            np.exp(-((x - 1 - i % 5) ** 2 + (y - 1 - (2 * i) % 5) ** 2) / (2 + i))
            + 0.5 * np.exp(-((x - 5) ** 2 + (y - 1 - i % 3) ** 2) / 1.5)
            - 0.1
            for i in range(8)
        ]
    )[:, None]


def golden_boxes():
    """Of pictures of 500x375."""
    found = []
    for i in range(8):
        x0, y0 = 20 + 45 * (i % 5), 15 + 40 * ((2 * i) % 5)
        box = x0, y0, min(x0 + 120 + 25 * i, 499), min(y0 + 100 + 15 * i, 374)
        found.append(boxes(box, (300, 40, 460, 200)) if i % 3 == 0 else boxes(box))
    return found
