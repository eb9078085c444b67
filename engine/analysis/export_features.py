"""Features in the layouts of the programs that search, compare and plot them.

Row i is that of sample i. Files appear when they are complete; where there are several, those
that are there can be kept. Memory holds some of the rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shardcam.engine.analysis.export_npy import write_array
from shardcam.engine.analysis.feature_rows import FeatureRows, feature_rows
from shardcam.engine.analysis.optional_packages import require
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.plain_text import printable
from shardcam.engine.io.whole_file import make_folder, whole_file

_FAISS_PRODUCT, _FAISS_DUMMY = 0, 1 << 20  # its metric of inner products; what its files hold, too
_Write = Callable[[BinaryIO], None]


def thingsvision(
    samples: Samples,
    folder: str | Path,
    layer: str | None = None,
    of: str | None = None,
    target: int = 0,
    keep: bool = False,
) -> int:
    """Write ``features.npy`` and ``file_names.txt``, as thingsvision's ``save_features`` has them.

    The array is float32: (N,C) pooled features, (N,C,h,w) activations, (N,h,w) raw maps.
    ``file_names.txt`` has the key of a row on each line.

    Parameters
    ----------
    folder
        Made if need be; files of the same names are replaced, others are left.
    layer
        None: the only one that has what is asked for.
    of
        ``pooled``, ``activations`` or ``maps``; None: the first of these that the run has.
    target
        Of maps: which of the explained classes of each sample.
    keep
        Leave files that are there, which are whole.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    ConfigError
        That was not saved, of that layer or of any, or maps are not of one size.
    IndexError
        There are not so many targets.
    DiskFull, RunDirectoryError
        No space, no permission to write, or a damaged shard.
    """
    rows = feature_rows(samples, of, layer, target)
    every = (rows.read(*part) for part in rows.parts())
    return _written(
        Path(folder),
        {
            "file_names.txt": lambda stream: _write_keys(stream, samples),
            "features.npy": lambda out: write_array(out, (len(rows), *rows.shape), every),
        }.items(),
        keep,
    )


def clip_retrieval(
    samples: Samples,
    folder: str | Path,
    layer: str | None = None,
    of: str | None = None,
    target: int = 0,
    keep: bool = False,
    paths: Callable[[int], str] | None = None,
) -> int:
    """Write ``img_emb/img_emb_K.npy`` and ``metadata/metadata_K.parquet``, as clip-retrieval does.

    Embeddings are (n,d) float16 of length 1; rows that are zero or not finite are 0. Metadata
    has ``image_path``, and the columns of `Samples.table` but for metrics. Its ``clip-retrieval
    index`` and autofaiss read these folders.

    Parameters
    ----------
    paths
        From the index of a sample in the source to its picture's path; None: its key.

    For the others see `thingsvision`.
    """
    pyarrow = require("pyarrow", "clip-retrieval's metadata")
    parquet = require("pyarrow.parquet", "clip-retrieval's metadata")
    rows = feature_rows(samples, of, layer, target)

    def embeddings(part: tuple[int, int]) -> _Write:
        return lambda out: np.save(out, rows.directions(*part).astype(np.float16))

    def metadata(part: tuple[int, int]) -> _Write:
        def write(out: BinaryIO) -> None:
            columns = _columns(samples, part)
            numbers = columns["sample"].tolist()
            path = map(paths, numbers) if paths else columns["key"]
            table = pyarrow.table({"image_path": [*path], **columns})
            parquet.write_table(table, out)

        return write

    return _written(
        Path(folder),
        (
            (f"{kind}/{kind}_{number}.{ending}", make(part))
            for number, part in _numbered(rows)
            for kind, ending, make in (
                ("metadata", "parquet", metadata),
                ("img_emb", "npy", embeddings),
            )
        ),
        keep,
    )


def faiss(
    samples: Samples,
    folder: str | Path,
    layer: str | None = None,
    of: str | None = None,
    target: int = 0,
    keep: bool = False,
) -> int:
    """Write ``flat.index``, which ``faiss.read_index`` reads, and ``keys.txt``.

    An exact index of inner products of float32 rows of length 1, so of cosines; rows that are
    zero or not finite are 0. Faiss itself is not needed, and memory does not hold the index. Ids
    are the lines of ``keys.txt``, from 0. For the parameters see `thingsvision`.
    """
    rows = feature_rows(samples, of, layer, target)

    def index(out: BinaryIO) -> None:
        head = len(rows), _FAISS_DUMMY, _FAISS_DUMMY, True, _FAISS_PRODUCT
        out.write(b"IxFI" + struct.pack("<iqqq?i", rows.width, *head))
        out.write(struct.pack("<Q", len(rows) * rows.width))
        for part in rows.parts():
            out.write(rows.directions(*part).astype("<f4", copy=False).tobytes())

    files: dict[str, _Write] = {
        "keys.txt": lambda stream: _write_keys(stream, samples),
        "flat.index": index,
    }
    return _written(Path(folder), files.items(), keep)


def parquet(
    samples: Samples,
    folder: str | Path,
    layer: str | None = None,
    of: str | None = None,
    target: int = 0,
    keep: bool = False,
) -> int:
    """Write ``part-K.parquet``: the columns of `Samples.table` but for metrics, and features.

    These are lists of a fixed length, as float32, in a column that is called ``pooled``,
    ``activations`` or ``maps``; metadata of the column has its ``layer`` and ``shape``, the
    latter as JSON. For the parameters see `thingsvision`.
    """
    pyarrow = require("pyarrow", "Parquet")
    writer = require("pyarrow.parquet", "Parquet")
    rows = feature_rows(samples, of, layer, target)
    about = {"layer": rows.layer, "shape": str(list(rows.shape))}

    def write(part: tuple[int, int]) -> _Write:
        def table(out: BinaryIO) -> None:
            values = pyarrow.array(rows.flat(*part).ravel())
            lists = pyarrow.FixedSizeListArray.from_arrays(values, rows.width)
            columns = {name: pyarrow.array(one) for name, one in _columns(samples, part).items()}
            fields = [pyarrow.field(name, one.type) for name, one in columns.items()]
            fields.append(pyarrow.field(rows.of, lists.type, metadata=about))
            schema = pyarrow.schema(fields)
            arrays = [*columns.values(), lists]
            writer.write_table(pyarrow.table(arrays, schema=schema), out)

        return table

    files = ((f"part-{number}.parquet", write(part)) for number, part in _numbered(rows))
    return _written(Path(folder), files, keep)


def _numbered(rows: FeatureRows) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each part of the rows with its number, all in as many digits."""
    parts = list(rows.parts())
    digits = len(str(max(len(parts), 1)))
    return ((f"{number:0{digits}d}", part) for number, part in enumerate(parts))


def _written(folder: Path, files: Iterable[tuple[str, _Write]], keep: bool) -> int:
    """Write what is not there, each file whole; how many."""
    make_folder(folder)
    count = 0
    for name, write in files:
        if not (keep and (folder / name).exists()):
            with whole_file(folder / name) as stream:
                write(stream)
            count += 1
    return count


def _write_keys(stream: BinaryIO, samples: Samples) -> None:
    """A line for each sample, whatever its key is."""
    for shard in samples.shards():
        stream.write("".join(f"{printable(key)}\n" for key in shard.keys).encode())


def _columns(samples: Samples, part: tuple[int, int]) -> dict[str, Any]:
    return samples.take(slice(*part)).columns()
