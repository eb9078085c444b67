"""Parts of files at URLs, many asked for at once: a server answers late, not slowly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.urls import at_once, server_of, system_of

Part = tuple[str, int, int | None]  # URL, first byte, end; None: to the end of the file

_GAP = 1 << 16  # bytes between two parts that are fetched rather than asked for apart
_LARGEST = 1 << 25  # bytes that parts are joined to


def fetch_many(sizes: Mapping[Part, int], cache: PartCache | None) -> dict[Part, bytes]:
    """Read from the cache, else fetch from the server in one try; what failed is left out.

    Parameters
    ----------
    sizes
        The parts, and how many bytes the listing says each has, -1 where it does not: what is
        cached of a file of another size is not used.
    cache
        Where parts are looked for first, and kept.
    """
    if cache is None:
        return _fetched(list(sizes))
    keys = {part: (*part, size, server_of(part[0])) for part, size in sizes.items()}
    found = {part: data for part, key in keys.items() if (data := cache.get(key)) is not None}
    new = _fetched([part for part in sizes if part not in found])
    for part, data in new.items():
        cache.put(keys[part], data)
    return found | new


def read_ranges(parts: Sequence[Part]) -> list[bytes | None]:
    """Read parts of files at URLs of one kind.

    There is one try, and None for what did not come: its reader asks again, and gets the error.
    """
    if not parts:
        return []
    paths, starts, ends = map(list, zip(*parts, strict=True))
    try:
        system = system_of(paths[0])
        found = system.cat_ranges(paths, starts, ends, on_error="return", **at_once(system))
    except Exception:  # each file system has exceptions of its own
        return [None] * len(parts)
    return [
        data if isinstance(data, bytes) and end in (None, start + len(data)) else None
        for data, (_, start, end) in zip(found, parts, strict=True)
    ]


def _fetched(parts: list[Part]) -> dict[Part, bytes]:
    """Neighbours in a file are fetched as one."""
    if not parts:
        return {}
    from fsspec.utils import merge_offset_ranges

    joined = merge_offset_ranges(*map(list, zip(*parts, strict=True)), _GAP, _LARGEST)
    blocks: list[Part] = list(zip(*joined, strict=True))
    found: dict[Part, bytes] = {}
    for (path, first, last), data in zip(blocks, read_ranges(blocks), strict=True):
        if data is None:
            continue
        for part in parts:
            _, start, end = part
            if part[0] == path and first <= start and (last is None or (end or last + 1) <= last):
                found[part] = data[start - first : None if end is None else end - first]
    return found
