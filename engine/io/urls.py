"""Asking the file system behind a URL, through fsspec: what it takes, and what it answers."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from shardcam.engine.errors import SourceError, needs

T = TypeVar("T")

_TOGETHER = 32  # requests that are on their way at once
_PACKAGES = {  # scheme: what fsspec needs for it
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "memory": "fsspec",
}
_SERVERS = {  # scheme: variables that name another server than the usual one
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}
_PAUSES = (0.25, 0.5, 1.0)  # seconds before each further try
_SECRET = re.compile(
    r"credential|signature|secret|token|passw|access.?key|api.?key|^(auth|key|pwd|sig)$",
    re.IGNORECASE,
)
_CONNECT, _SILENCE, _TOTAL = 10, 30, 300  # seconds until a server counts as gone


def is_url(path: str) -> bool:
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
        raise SourceError(f"not a valid URL: {error}") from None
    if "@" in rest.partition("/")[0] or any(_SECRET.search(name) for name in names):
        raise SourceError(
            f"a {scheme}:// URL with credentials, which would be stored with the run; give "
            "them in the environment"
        )
    if scheme not in _PACKAGES and not (writing and _is_known(scheme)):
        raise SourceError(f"{url}: unknown scheme; known are {', '.join(_PACKAGES)}")
    packages = dict.fromkeys(("fsspec", _PACKAGES.get(scheme, "fsspec")))
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise SourceError(f"{url}: {scheme}:// {needs(*missing)}")


def _is_known(scheme: str) -> bool:
    """Whether fsspec has a file system of that name, and what it needs is installed."""
    if find_spec("fsspec") is None:
        return True  # the next check reports it
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError):
        return False
    return True


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
        config = {"retries": retries, "max_pool_connections": _TOGETHER}
        return fsspec.filesystem(scheme, use_listings_cache=False, config_kwargs=config)
    if scheme not in ("http", "https"):
        return fsspec.filesystem(scheme, use_listings_cache=False)
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_TOTAL, sock_connect=_CONNECT, sock_read=_SILENCE)
    return fsspec.filesystem(scheme, client_kwargs={"timeout": timeout})


def at_once(system: Any) -> dict[str, int]:
    """Options of a call for many files: how many requests may be on their way."""
    return {"batch_size": _TOGETHER} if system.async_impl else {}


def server_of(url: str) -> tuple[str | None, ...]:
    """The servers that the environment names for a kind of URL."""
    return tuple(map(os.environ.get, _SERVERS.get(url.partition("://")[0], ())))


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
                raise as_os_error(error) from error
        time.sleep(pause)
    raise AssertionError  # the last try returns or raises


def _told(error: Exception) -> Exception:
    """The server's error; fsspec calls all of them a missing file, and a missing key is one."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return cause if isinstance(cause, Exception) and not isinstance(cause, KeyError) else error


def _status(error: Exception) -> int | None:
    """The HTTP status of an error, which aiohttp, gcsfs and botocore store differently."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    answer = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = getattr(error, "status", None) or answer.get("HTTPStatusCode")
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


def as_os_error(error: Exception) -> OSError:
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
