"""The same pictures as every kind of source."""

import csv
import gzip
import io
import json
import struct
import tarfile

import h5py
import mxnet as mx
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.readers.source import SourceOptions, open_source


def opened(source, **options):
    """The reader of a source, as the jobs open it."""
    return open_source(str(source), SourceOptions(EXTENSIONS, **options))


def pictures(count, height=12, width=9, gray=False):
    """(N,H,W,3) or (N,H,W) random pixels."""
    shape = (count, height, width) if gray else (count, height, width, 3)
    return np.random.RandomState(count).randint(0, 256, shape, np.uint8)


def png(picture):
    """Lossless bytes."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def write_folder(root, stack):
    """``root/group/0007.png`` for each picture; returns the relative paths."""
    names = [f"group{i // 100}/{i:04d}.png" for i in range(len(stack))]
    for name, picture in zip(names, stack):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(picture))
    return names


def write_manifests(root, names, labels):
    """One of each form; returns their paths."""
    (root / "list.txt").write_text("".join(f"{name}\n" for name in names))
    with (root / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *zip(names, labels)])
    rows = [{"path": name, "label": label} for name, label in zip(names, labels)]
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pa.Table.from_pylist(rows), root / "list.parquet", row_group_size=7)
    return [root / f"list.{ending}" for ending in ("txt", "csv", "jsonl", "parquet")]


def write_rec(path, items, labels, index=True):
    """By MXNet's own writer."""
    if index:
        record = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    else:
        record = mx.recordio.MXRecordIO(str(path), "w")
    for i, (item, label) in enumerate(zip(items, labels)):
        packed = mx.recordio.pack(mx.recordio.IRHeader(0, label, i, 0), item)
        if index:
            record.write_idx(i, packed)
        else:
            record.write(packed)
    record.close()
    return path


def write_tar(path, members, form=tarfile.GNU_FORMAT):
    """(name, bytes) of each member, by Python's own writer."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_h5(path, stack, labels=None, name="images", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=stack, **options)
        if labels is not None:
            file["labels"] = np.asarray(labels)
    return path


def write_idx(folder, stack, labels, packed=False):
    """MNIST's pair of files."""
    end = ".gz" if packed else ""
    pack = gzip.compress if packed else bytes
    images = folder / f"train-images-idx3-ubyte{end}"
    images.write_bytes(pack(struct.pack(">IIII", 0x803, *stack.shape) + stack.tobytes()))
    values = struct.pack(">II", 0x801, len(labels)) + bytes(labels)
    (folder / f"train-labels-idx1-ubyte{end}").write_bytes(pack(values))
    return images
