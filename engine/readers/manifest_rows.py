"""The rows of text manifests: ``.txt``, ``.csv`` and ``.jsonl``, a line at a time.

A row is the values of `COLUMNS`, None where there is none, behind the number of its line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

from shardcam.engine.errors import SourceError
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing

COLUMNS = ("path", "key", "label", "x0", "y0", "x1", "y1")
Row = tuple[int, tuple[Any, ...]]
_LONGEST = 1 << 17  # bytes of a line
_BOM = b"\xef\xbb\xbf"


def rows(path: str) -> Iterator[Row]:
    """Every row of a text manifest.

    Raises
    ------
    SourceError
        A line is not a row: the message has its number.
    """
    ending = path.partition("?")[0].rpartition(".")[2].lower()
    kinds: dict[str, Callable[[str], Iterator[Row]]] = {
        "txt": _txt_rows,
        "csv": _csv_rows,
        "jsonl": _jsonl_rows,
    }
    return kinds[ending](path)


def require_columns(path: str, names: list[str]) -> None:
    """Check the names of a table's columns.

    Raises
    ------
    SourceError
        There is no ``path``, a name comes twice or is nearly one of ours, or the box is not whole.
    """
    for name in names:
        if names.count(name) > 1:
            raise SourceError(f"{path}, line 1: the column {name!r} appears twice")
        meant = name.strip().lower()
        if meant in COLUMNS and name not in COLUMNS:
            raise SourceError(f"{path}, line 1: the column {name!r} must be {meant!r}")
    if "path" not in names:
        given = ", ".join(names)[:200]
        raise SourceError(f"{path}, line 1: no column 'path'; the columns are {given}")
    missing = [name for name in COLUMNS[3:] if name not in names]
    if 0 < len(missing) < 4:
        raise SourceError(f"{path}, line 1: a box needs the column {missing[0]!r} too")


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without its end; none of them is empty."""
    with listing(path), open_stream(path) as stream:
        number = 0
        while line := stream.readline(_LONGEST):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            if len(line) == _LONGEST:
                raise SourceError(f"{path}, line {number}: longer than {_LONGEST} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise SourceError(f"{path}, line {number}: not UTF-8: {error.reason}") from None
            if "\0" in text:
                raise SourceError(f"{path}, line {number}: it contains a NUL character")
            if not text.strip():
                raise SourceError(f"{path}, line {number}: empty")
            yield number, text.rstrip("\r\n")
        if not number:
            raise SourceError(f"{path}: empty")


def _txt_rows(path: str) -> Iterator[Row]:
    nothing = (None,) * (len(COLUMNS) - 1)
    for number, text in _lines(path):
        yield number, (text, *nothing)


def _csv_rows(path: str) -> Iterator[Row]:
    """RFC 4180, with a comma between columns."""
    table = csv.reader((text + "\n" for _, text in _lines(path)), strict=True)
    try:
        names = next(table)
        require_columns(path, names)
        at = [names.index(name) if name in names else None for name in COLUMNS]
        for row in table:
            if len(row) != len(names):
                raise SourceError(
                    f"{path}, line {table.line_num}: {len(row)} columns, the header has "
                    f"{len(names)}"
                )
            values = [None if i is None else row[i] or None for i in at]
            yield table.line_num, (*values[:2], *map(_number, values[2:]))
    except csv.Error as error:
        raise SourceError(f"{path}, line {table.line_num}: {error}") from None


def _number(text: str | None) -> int | float | str | None:
    """The number that a text is; other text stays, for the reader to refuse."""
    if text is None:
        return None
    if text.isascii() and text.removeprefix("-").isdigit():
        return int(text) if len(text) < 20 else text
    try:
        return float(text)
    except ValueError:
        return text


def _jsonl_rows(path: str) -> Iterator[Row]:
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    for number, text in _lines(path):
        try:
            row = decoder.decode(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or str(error)
            raise SourceError(f"{path}, line {number}: not JSON: {reason}") from None
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {number}: not a JSON object")
        yield number, tuple(map(row.get, COLUMNS))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found
