"""The rows of text manifests: ``.txt``, ``.csv``, ``.tsv`` and ``.jsonl``, a line at a time.

A row is the values of the columns that are asked for, None where there is none, behind the
number of its line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

from shardcam.engine.errors import SourceError
from shardcam.engine.io.remote_file import open_stream
from shardcam.engine.readers.location import listing

_SIDES = ("x0", "y0", "x1", "y1")
COLUMNS = ("path", "key", "label", *_SIDES)
SEVERAL = ("path", "key", "labels")  # of which the last holds several classes
Row = tuple[int, tuple[Any, ...]]
LONGEST = 1 << 17  # bytes of a line
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = ",;\t|"
_LABELLED = re.compile(r"(.*[^\s,;])[\s,;]+(-?\d{1,18})")  # a line of .txt


def rows(
    path: str,
    endings: tuple[str, ...] = (),
    on_columns: Callable[[Iterable[str]], None] = lambda names: None,
    columns: Sequence[str] = COLUMNS,
) -> Iterator[Row]:
    """Every row of a text manifest, of some columns; ``.txt`` has those of `COLUMNS`.

    A line of ``.txt`` is a path. Only where it has one of the (lower-case) `endings`, then
    spaces, a comma or a tab and a whole number, that is the label; a path that ends in one of
    them can so contain anything. `on_columns` is told what columns there are, in the first row.

    Raises
    ------
    SourceError
        A line is not a row: the message has its number.
    """
    ending = path.partition("?")[0].rpartition(".")[2].lower()
    kinds: dict[str, Callable[[str], Iterator[Row]]] = {
        "txt": partial(_txt_rows, endings=endings),
        "csv": partial(_csv_rows, on_columns=on_columns, columns=columns),
        "tsv": partial(_csv_rows, on_columns=on_columns, columns=columns),
        "jsonl": partial(_jsonl_rows, on_columns=on_columns, columns=columns),
    }
    return kinds[ending](path)


def require_columns(
    path: str, names: list[str], columns: Sequence[str] = COLUMNS
) -> list[int | None]:
    """Where each of some columns is in a table; the case of its names and spaces do not matter.

    Raises
    ------
    SourceError
        There is no ``path``, one that is asked for comes twice, or the box is not whole.
    """
    plain = list(map(_plain, names))
    for name in columns:
        if plain.count(name) > 1:
            raise SourceError(f"{path}, line 1: the column {name!r} appears twice")
    if "path" not in plain:
        given = ", ".join(names)[:200]
        raise SourceError(
            f"{path}, line 1: no column 'path'; the columns are {given}. Call the one that names "
            "the images path"
        )
    missing = [name for name in _SIDES if name in columns and name not in plain]
    if 0 < len(missing) < 4:
        raise SourceError(f"{path}, line 1: a box needs the column {missing[0]!r} too")
    return [plain.index(name) if name in plain else None for name in columns]


def _plain(name: str) -> str:
    return name.strip().lower()


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without its end; only the last ones may be empty."""
    with listing(path), open_stream(path) as stream:
        number = empty = 0
        while line := stream.readline(LONGEST):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
                if line.startswith(_UTF_16):
                    raise SourceError(f"{path}: text in UTF-16; save it as UTF-8")
                if b"\r" in line.rstrip(b"\r\n"):
                    raise SourceError(f"{path}: lines end in CR alone; save it with LF or CRLF")
            if len(line) == LONGEST:
                raise SourceError(f"{path}, line {number}: longer than {LONGEST} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{path}, line {number}: not UTF-8: {error.reason}; save it as UTF-8"
                ) from None
            if "\0" in text:
                raise SourceError(f"{path}, line {number}: it contains a NUL character")
            if not text.strip():
                empty = empty or number
                continue
            if empty:
                raise SourceError(f"{path}, line {empty}: empty; delete the line")
            yield number, text.rstrip("\r\n")
        if not number or empty == 1:
            raise SourceError(f"{path}: empty")


def _txt_rows(path: str, endings: tuple[str, ...]) -> Iterator[Row]:
    nothing = (None,) * (len(COLUMNS) - 3)
    for number, text in _lines(path):
        bare = text.rstrip()
        if bare.lower().endswith(endings):
            yield number, (bare, None, None, *nothing)
        elif (found := _LABELLED.fullmatch(bare)) and found[1].lower().endswith(endings):
            yield number, (found[1], None, int(found[2]), *nothing)
        else:
            yield number, (text, None, None, *nothing)


def _csv_rows(
    path: str, on_columns: Callable[[Iterable[str]], None], columns: Sequence[str]
) -> Iterator[Row]:
    """RFC 4180, but for the separator: the first of ours that gives a column ``path``."""
    lines = _lines(path)
    _, header = next(lines)
    names, separator, spaced = _header(header)
    at = require_columns(path, names, columns)
    on_columns(names)
    texts = chain([header], (text for _, text in lines))
    table = csv.reader(
        (text + "\n" for text in texts),
        delimiter=separator,
        skipinitialspace=spaced,
        strict=True,
    )
    try:
        next(table)
        for row in table:
            if len(row) != len(names):
                raise SourceError(
                    f"{path}, line {table.line_num}: {len(row)} columns, the header has "
                    f"{len(names)}; put values with {separator!r} in them in double quotes"
                )
            values = [None if i is None else row[i] or None for i in at]
            yield table.line_num, (*values[:3], *map(_number, values[3:]))
    except csv.Error as error:
        raise SourceError(f"{path}, line {table.line_num}: {error}") from None


def _header(text: str) -> tuple[list[str], str, bool]:
    """Names of a table's columns, what separates them, and whether spaces follow that."""
    for separator in _SEPARATORS:
        with suppress(csv.Error):
            names = next(csv.reader([text], delimiter=separator, strict=True))
            if "path" in map(_plain, names):
                return names, separator, all(name.startswith(" ") for name in names[1:])
    return text.split(","), ",", False


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


def _jsonl_rows(
    path: str, on_columns: Callable[[Iterable[str]], None], columns: Sequence[str]
) -> Iterator[Row]:
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    for number, text in _lines(path):
        try:
            row = decoder.decode(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or str(error)
            raise SourceError(f"{path}, line {number}: not JSON: {reason}") from None
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {number}: not a JSON object")
        for name in row.keys() - set(columns):
            if (plain := _plain(name)) in columns:
                if plain in row:
                    raise SourceError(f"{path}, line {number}: {plain!r} appears twice")
                row[plain] = row[name]
        if "path" not in row:
            given = ", ".join(row)[:200] or "none"
            raise SourceError(
                f"{path}, line {number}: no 'path' in it; its names are {given}. Call the one that "
                "names the image path"
            )
        if number == 1:
            on_columns(row)
        yield number, tuple(map(row.get, columns))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found
