"""Bytes at a path: of this machine by plain system calls, at a URL through fsspec.

What a reader needs and no more: a size, a whole file, a range of it, a listing.
Everything is opened for reading, nothing is cached on disk, and a range is never longer
than the file, whatever a header claims.  :mod:`engine.streams` has what is sought in.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from engine.errors import SourceError

T = TypeVar("T")

LARGEST = 1 << 30  # bytes of one image
_PACKAGES = {  # scheme: what fsspec needs for it
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "memory": "fsspec",
}
_PAUSES = (0.25, 0.5, 1.0)  # seconds before each further try
TOGETHER = 32  # requests that are on their way at once
_SECRET = re.compile(
    r"credential|signature|secret|token|passw|access.?key|api.?key|^(auth|key|pwd|sig)$",
    re.IGNORECASE,
)
_CONNECT, _SILENCE, _TOTAL = 10, 30, 300  # seconds until a server counts as gone


def is_url(path: str) -> bool:
    """Whether a path has a scheme."""
    return "://" in path


def require_url(url: str, writing: bool = False) -> None:
    """Check that a URL can be used; to write, any scheme that fsspec knows will do.

    Raises
    ------
    SourceError
        Its scheme is unknown, a package for it is missing, or it holds credentials.
    """
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(url)
        names = [name for name, _ in parse_qsl(parts.query)]
    except ValueError as error:
        raise SourceError(f"a URL that cannot be read: {error}") from None
    if "@" in rest.partition("/")[0] or any(_SECRET.search(name) for name in names):
        raise SourceError(
            f"a {scheme}:// URL with credentials in it: it would be stored with the run; give "
            "them in the environment"
        )
    packages = ("fsspec", _PACKAGES.get(scheme, "fsspec"))
    if scheme not in _PACKAGES and not (writing and _is_known(scheme)):
        raise SourceError(f"{url}: unknown scheme; known are {', '.join(_PACKAGES)}")
    for package in packages:
        if find_spec(package) is None:
            extra = "'shardcam[remote]'" if package in ("fsspec", "aiohttp") else package
            raise SourceError(f"{url}: {scheme}:// needs {package}: pip install {extra}")


def _is_known(scheme: str) -> bool:
    """Whether fsspec has a file system of that name, and what it needs is installed."""
    if find_spec("fsspec") is None:
        return True  # which the next check tells
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError):
        return False
    return True


def size(path: str) -> int:
    """Bytes of a file.

    Raises
    ------
    OSError
        There is none, or it is no regular file.
    """
    if not is_url(path):
        return _regular(path)
    found = ask(path, lambda system: system.info(path))
    if found.get("type") != "file" or found.get("size") is None:
        raise OSError("its size cannot be known")
    return int(found["size"])


def exists(path: str) -> bool:
    """Whether there is a file that may be read.

    Raises
    ------
    OSError
        It cannot be known: the server does not answer.
    """
    if not is_url(path):
        return Path(path).is_file()
    try:
        return size(path) >= 0
    except (FileNotFoundError, PermissionError):  # S3 says the latter where it may not list
        return False


def read(path: str) -> bytes:
    """Return a whole file.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or is larger than `LARGEST`.
    """
    if is_url(path):
        data: bytes = ask(path, lambda system: system.cat_file(path))
        return data
    length = _regular(path)  # a pipe would wait for ever
    _require_image(length)
    with Path(path).open("rb") as stream:
        return stream.read(length)


def read_range(path: str, offset: int, length: int) -> bytes:
    """Return `length` bytes of a file from `offset` on.

    Raises
    ------
    OSError
        It cannot be read, ends before, or so much is no image.
    """
    _require_image(length)
    if is_url(path):
        data: bytes = ask(
            path, lambda system: system.cat_file(path, start=offset, end=offset + length)
        )
        if len(data) > length:
            raise OSError("the server sends whole files only: it does not know byte ranges")
    else:
        held = _regular(path)
        with Path(path).open("rb") as stream:
            data = os.pread(stream.fileno(), max(min(length, held - offset), 0), offset)
    if len(data) != length:
        raise OSError(f"the file is cut short: {len(data)} of {length} bytes at {offset}")
    return data


def read_together(ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Parts of files at URLs of one kind, from a place to another, many asked for at once.

    There is one try, and None for what did not come; :func:`read_range` says why.
    """
    if not ranges:
        return []
    paths, starts, ends = map(list, zip(*ranges, strict=True))
    try:
        system = system_of(paths[0])
        limit = {"batch_size": TOGETHER} if system.async_impl else {}
        found = system.cat_ranges(paths, starts, ends, on_error="return", **limit)
    except Exception:  # each file system has exceptions of its own
        return [None] * len(ranges)
    lengths = (end - start for _, start, end in ranges)
    return [
        data if isinstance(data, bytes) and len(data) == length else None
        for data, length in zip(found, lengths, strict=True)
    ]


def walk(url: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Folders below a URL: each one's URL, and its subfolders and files by name.

    Subfolders that the caller removes are not entered.

    Raises
    ------
    OSError
        It cannot be listed.
    """
    system = system_of(url)
    try:
        for folder, subfolders, files in system.walk(url, detail=True, on_error="raise"):
            yield str(system.unstrip_protocol(folder)), subfolders, files
    except Exception as error:
        raise _as_os_error(error) from error


def _require_image(length: int) -> None:
    if length > LARGEST:
        raise OSError(f"{length} bytes; an image has at most {LARGEST}")


def _regular(path: str) -> int:
    """Size of a regular file."""
    try:
        found = os.stat(path)
    except ValueError as error:  # a NUL in it
        raise OSError(str(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found.st_size


def system_of(url: str) -> Any:
    """The file system behind a URL; fsspec keeps one for each kind.

    It remembers no listings: other processes write there too.
    """
    import fsspec

    scheme = url.partition("://")[0]
    if scheme not in _PACKAGES:  # the URL may name a host
        return fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    if scheme == "s3":  # botocore by itself goes on for minutes, at each of our tries
        retries = {"total_max_attempts": 2, "mode": "standard"}
        config = {"retries": retries, "max_pool_connections": TOGETHER}
        return fsspec.filesystem(scheme, use_listings_cache=False, config_kwargs=config)
    if scheme not in ("http", "https"):
        return fsspec.filesystem(scheme, use_listings_cache=False)
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_TOTAL, sock_connect=_CONNECT, sock_read=_SILENCE)
    return fsspec.filesystem(scheme, client_kwargs={"timeout": timeout})


def ask(path: str, call: Callable[[Any], T]) -> T:
    """Ask the file system behind a URL, a few times if need be.

    Raises
    ------
    OSError
        What is not there, not allowed, or did not work the last time either.
    """
    for pause in (*_PAUSES, None):
        try:
            return call(system_of(path))
        except Exception as found:  # each file system has exceptions of its own
            error = _told(found)
            if pause is None or _is_final(error):
                raise _as_os_error(error) from error
        time.sleep(pause)
    raise AssertionError  # the last try returns or raises


def _told(error: Exception) -> Exception:
    """What a server said; fsspec calls all of that a missing file."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return cause if isinstance(cause, Exception) else error


def _status(error: Exception) -> int | None:
    """What a server answered, in HTTP's numbers; aiohttp, gcsfs and botocore each have a way."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = getattr(error, "status", None) or told.get("HTTPStatusCode")
    if status is None and type(error).__module__.startswith("gcsfs"):
        status = getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _is_final(error: Exception) -> bool:
    """Whether asking again is useless."""
    status = _status(error)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 409, 429)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(
        error, FileNotFoundError | PermissionError | IsADirectoryError | FileExistsError
    )


def _as_os_error(error: Exception) -> OSError:
    """One line, without queries of URLs: a redirection may carry a signature."""
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if isinstance(error, FileExistsError) or status == 412:
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if isinstance(status, int):
        return OSError(f"the server answers {status}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError(error.errno, os.strerror(error.errno))
    if isinstance(error, OSError) and error.strerror:
        return OSError(error.strerror)
    text = re.sub(r"\?\S*", "", str(error).partition("\n")[0])
    return OSError(f"{type(error).__name__}: {text}")
