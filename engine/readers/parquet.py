"""The rows of a ``.parquet`` manifest, a batch of a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

from shardcam.engine.errors import SourceError
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.manifest_rows import Row, require_columns

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


def parquet_rows(
    path: str, on_columns: Callable[[Iterable[str]], None] = lambda names: None
) -> Iterator[Row]:
    """Every row; its number counts from 1. `on_columns` is told what columns there are.

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
            held = [None if i is None else names[i] for i in require_columns(path, names)]
            on_columns(names)
            wanted = [name for name in held if name is not None]
            for batch in table.iter_batches(batch_size=_BATCH, columns=wanted):
                nothing = [None] * len(batch)
                columns = [
                    nothing if name is None else batch.column(name).to_pylist() for name in held
                ]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, values
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{path}: cannot be read as Parquet after row {number}: {reason}"
        ) from None
