"""Files at URLs that are written to: listed, fetched, published, moved, deleted.

A file appears whole.  Object stores do that by themselves; elsewhere it is
uploaded under another name and moved.  With `create` a file that is there is kept: it is
looked up before, and of two publishers at the same moment S3, Google Cloud Storage and
memory let the first one win.

Every function raises ``StoreError`` for a URL that cannot be read or written, after a
few tries, and ``DiskFull`` where there is no space left.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardcam.engine.errors import ConfigError, SourceError, store_error
from shardcam.engine.errors import storage_error as disk_error
from shardcam.engine.io import files
from shardcam.engine.io.urls import ask, at_once, require_url

_WHOLE = ("s3", "s3a", "gs", "gcs", "memory", "az", "abfs", "abfss", "adl", "oss", "oci")
_READ_ONLY = ("http", "https")
PROBE = ".shardcam-"  # prefix of a file that is written as a test


def require_writable_url(url: str) -> None:
    """Check that a run may be written to a URL.

    Raises
    ------
    ConfigError
        Its scheme is unknown or for reading only, a package is missing, or it holds
        credentials.
    """
    try:
        scheme, parts = url.partition("://")[0], urlsplit(url)
        require_url(url, writing=True)
    except (SourceError, ValueError) as error:
        raise ConfigError(f"--out: {error}") from None
    if scheme in _READ_ONLY:
        raise ConfigError(f"--out {url}: {scheme}:// is for reading only")
    if parts.query or parts.fragment or not parts.netloc:
        raise ConfigError(f"--out {url}: expected {scheme}://BUCKET/FOLDER")


def names(folder: str) -> set[str]:
    """Names in a folder; none if it does not exist."""
    with _reading(folder):
        try:
            found = ask(folder, lambda system: system.ls(folder, detail=False))
        except FileNotFoundError:
            return set()
    return {str(name).rstrip("/").rpartition("/")[2] for name in found}


def sizes(folder: str) -> dict[str, int]:
    """Bytes of each file in a folder."""
    with _reading(folder):
        try:
            found = ask(folder, lambda system: system.ls(folder, detail=True))
        except FileNotFoundError:
            return {}
    return {
        entry["name"].rpartition("/")[2]: entry["size"]
        for entry in found
        if entry["type"] == "file"
    }


def exists(url: str) -> bool:
    with _reading(url):
        return files.exists(url)


def download(url: str, path: Path) -> bool:
    """Fetch a file to `path`, whole or not at all; False if there is none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _reading(url):
        try:
            ask(url, lambda system: _get(system, url, temporary))
        except FileNotFoundError:
            return False
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(error, path.parent) from error
            raise
    temporary.replace(path)
    return True


def download_all(folder: str, wanted: Mapping[str, Path]) -> None:
    """Bring files of a folder, or of folders in it, to their paths, many at a time.

    Raises
    ------
    StoreError, DiskFull
        One of them is missing or cannot be read, or there is no room for it.
    """
    if not wanted:
        return
    places = {path.parent for path in wanted.values()}
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    remote, local = list(wanted), [str(path) for path in wanted.values()]
    with _reading(folder):
        try:
            ask(folder, lambda system: system.get(remote, local, **at_once(system)))
        except FileNotFoundError as error:  # which does not say what is missing
            gone = next((url for url in remote if not files.exists(url)), folder)
            raise store_error(error, gone, "read") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(error, min(places)) from error
            raise


def upload(source: Path, url: str, create: bool = False) -> bool:
    """Upload a file, whole or not at all.

    `create`: not over a file that is there; then it returns False.
    """
    with _writing(url):
        try:
            if url.partition("://")[0] in _WHOLE:
                _put(source, url, create)
            else:
                _put_and_move(source, url, create)
        except FileExistsError:
            return False
    return True


def upload_all(sources: Sequence[Path], folder: str) -> None:
    """Upload files into a folder, in the place of older ones; to a store several at a time."""
    if folder.partition("://")[0] not in _WHOLE:
        for source in sources:
            upload(source, f"{folder}/{source.name}")
        return
    local = [str(source) for source in sources]
    remote = [f"{folder}/{source.name}" for source in sources]
    with _writing(folder):
        ask(folder, lambda system: system.put(local, remote))


def remove(url: str) -> None:
    with _writing(url):
        ask(url, lambda system: system.rm_file(url))


def move(source: str, target: str) -> None:
    with _writing(source):
        if source.partition("://")[0] not in _WHOLE:
            folder = str(target).rpartition("/")[0]
            ask(folder, lambda system: system.makedirs(folder, exist_ok=True))
        ask(source, lambda system: system.mv(source, target))


def require_writing(folder: str) -> None:
    """Write to a folder and delete it again: better refused now than after the work."""
    probe = f"{folder}/{PROBE}{secrets.token_hex(8)}"
    with _writing(folder):
        try:
            ask(probe, lambda system: system.pipe_file(probe, b"shardcam"))
        except FileNotFoundError as error:
            raise ConfigError(f"--out {folder}: cannot be written: no such bucket") from error
        ask(probe, lambda system: system.rm_file(probe))


def _get(system: Any, url: str, path: Path) -> None:
    if system.protocol == "memory":  # its readers of one file at once share one position
        path.write_bytes(system.cat_file(url))
    else:
        system.get_file(url, str(path))


def _put(source: Path, url: str, create: bool) -> None:
    """One call, which the store makes atomic."""

    def call(system: Any) -> None:
        if create and system.exists(url):  # not every server heeds the condition
            raise FileExistsError(url)
        mode = {"mode": "create"} if create else {}
        if system.protocol == "memory":  # its put_file looks, makes an empty file, then fills it
            system.pipe_file(url, source.read_bytes(), **mode)
        else:
            system.put_file(str(source), url, **mode)

    ask(url, call)


def _put_and_move(source: Path, url: str, create: bool) -> None:
    folder, _, name = url.rpartition("/")
    temporary = f"{folder}/.{name}-{secrets.token_hex(8)}"

    def call(system: Any) -> None:
        if create and system.exists(url):
            raise FileExistsError(url)
        system.makedirs(folder, exist_ok=True)
        try:
            system.put_file(str(source), temporary)
            system.mv(temporary, url)
        except BaseException:
            if system.exists(temporary):
                system.rm_file(temporary)
            raise

    ask(url, call)


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(error, url, "read") from error


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(error, url) from error
