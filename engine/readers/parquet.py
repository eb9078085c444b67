"""The rows of a ``.parquet`` manifest, a batch of a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from shardcam.engine.errors import SourceError
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.manifest_rows import LONGEST, Row, require_columns

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
            schema = parquet.read_schema(stream)
            names = list(schema.names)
            held = [None if i is None else names[i] for i in require_columns(path, names)]
            on_columns(names)
            wanted = [name for name in held if name is not None]
            texts = [name for name in wanted if _is_text(name, schema.field(name).type)]
            stream.seek(0)
            # A text that comes often is stored once, and stays so: a few kilobytes could hold
            # gigabytes of the same.
            table = parquet.ParquetFile(stream, read_dictionary=texts)
            for batch in _batches(table, wanted):
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


def _is_text(name: str, kind: Any) -> bool:
    """Whether a column is of texts and not of numbers; others could be of any size."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_nested(kind) or types.is_fixed_size_binary(kind):
        raise ValueError(f"the column {name!r} is {kind}, neither numbers nor texts")
    return str(kind).removeprefix("large_") in ("string", "binary")


def _batches(table: Any, wanted: list[str]) -> Iterator[Any]:
    """Rows of all groups; no text in them is longer than a line of other manifests may be."""
    for group in range(table.num_row_groups):
        looked = dict.fromkeys(wanted, 0)  # how many of the texts that come were looked at
        for batch in table.iter_batches(_BATCH, [group], wanted):
            for name in wanted:
                texts = getattr(batch.column(name), "dictionary", None)
                if texts is not None:
                    _require_short(name, texts[looked[name] :])
                    looked[name] = len(texts)
            yield batch


def _require_short(name: str, texts: Any) -> None:
    compute: Any = import_module("pyarrow.compute")
    longest = compute.max(compute.binary_length(texts)).as_py() or 0
    if longest > LONGEST:
        raise ValueError(f"a value of {longest} bytes in the column {name!r}")
