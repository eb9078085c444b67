"""The rows of a ``.parquet`` manifest, a batch of a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from os import SEEK_END
from typing import Any

from shardcam.engine.errors import SourceError, needs
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing
from shardcam.engine.readers.manifest_rows import COLUMNS, LONGEST, Row, require_columns

_BATCH, _SMALL = 10_000, 500  # rows; where texts may be stored by what differs between them
_UNPACKED, _PACKED = 1 << 28, 100  # bytes of a column of a row group; or so many times the file's


def require_pyarrow(path: str) -> None:
    """Check that Parquet can be read.

    Raises
    ------
    SourceError
        pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise SourceError(f"{path}: .parquet {needs('pyarrow')}")


def parquet_rows(
    path: str,
    on_columns: Callable[[Iterable[str]], None] = lambda names: None,
    columns: Sequence[str] = COLUMNS,
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
            metadata = parquet.read_metadata(stream)
            schema = metadata.schema.to_arrow_schema()
            names = list(schema.names)
            held = [None if i is None else names[i] for i in require_columns(path, names, columns)]
            on_columns(names)
            wanted = [name for name in held if name is not None]
            texts = [name for name in wanted if _is_text(name, schema.field(name).type)]
            delta = _unpackable(metadata, wanted, stream.seek(0, SEEK_END))
            # A text that comes often is stored once, and stays so: a few kilobytes could hold
            # gigabytes of the same. pyarrow cannot do that with texts stored as differences.
            table = parquet.ParquetFile(
                stream,
                metadata=metadata,
                read_dictionary=[name for name in texts if name not in delta],
            )
            rows = _SMALL if delta.intersection(texts) else _BATCH
            for batch in _batches(table, wanted, texts, rows):
                nothing = [None] * len(batch)
                values_of = [
                    nothing if name is None else batch.column(name).to_pylist() for name in held
                ]
                for values in zip(*values_of, strict=True):
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
    return str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary")


def _unpackable(metadata: Any, wanted: list[str], size: int) -> set[str]:
    """The columns that are stored as differences; ValueError if one is too large for the file."""
    delta: set[str] = set()
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for column in map(row_group.column, range(row_group.num_columns)):
            if column.path_in_schema not in wanted:
                continue
            unpacked = column.total_uncompressed_size
            if unpacked > max(_UNPACKED, _PACKED * size):
                raise ValueError(
                    f"the column {column.path_in_schema!r} would unpack to {unpacked} bytes, from "
                    f"a file of {size}"
                )
            if any(name.startswith("DELTA") for name in column.encodings):
                delta.add(column.path_in_schema)
    return delta


def _batches(table: Any, wanted: list[str], texts: list[str], rows: int) -> Iterator[Any]:
    """Rows of all groups; no text in them is longer than a line of other manifests may be."""
    for group in range(table.num_row_groups):
        looked = dict.fromkeys(texts, 0)  # how many of the texts that come were looked at
        for batch in table.iter_batches(rows, [group], wanted):
            for name in texts:
                held = getattr(batch.column(name), "dictionary", None)
                if held is None:
                    _require_short(name, batch.column(name))
                else:
                    _require_short(name, held[looked[name] :])
                    looked[name] = len(held)
            yield batch


def _require_short(name: str, texts: Any) -> None:
    compute: Any = import_module("pyarrow.compute")
    longest = compute.max(compute.binary_length(texts)).as_py() or 0
    if longest > LONGEST:
        raise ValueError(f"a value of {longest} bytes in the column {name!r}")
