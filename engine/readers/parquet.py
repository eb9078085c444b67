"""The rows of a ``.parquet`` manifest, a batch of a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from shardcam.engine.errors import SourceError
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.manifest_rows import COLUMNS, Row, require_columns

_BATCH = 10_000  # rows


def require_pyarrow(path: str) -> None:
    """Check that Parquet can be read.

    Raises
    ------
    SourceError
        pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise SourceError(f"{path}: .parquet needs pyarrow: pip install pyarrow==24.0.0")


def parquet_rows(path: str) -> Iterator[Row]:
    """Every row; its number counts from 1.

    Raises
    ------
    SourceError
        The file is no Parquet file, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with listing(path), open_stream(path) as stream:
            table = parquet.ParquetFile(stream)
            names = list(table.schema_arrow.names)
            require_columns(path, names)
            held = [name for name in COLUMNS if name in names]
            for batch in table.iter_batches(batch_size=_BATCH, columns=held):
                columns = {name: batch.column(name).to_pylist() for name in held}
                nothing = [None] * len(batch)
                for values in zip(*(columns.get(c, nothing) for c in COLUMNS), strict=True):
                    number += 1
                    yield number, values
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{path}: cannot be read as Parquet after row {number}: {reason}"
        ) from None
