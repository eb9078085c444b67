"""The published files of a run: on this machine's disk, or at a URL.

A file at a URL appears whole.  Object stores do that by themselves; elsewhere it is
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardcam.engine.errors import ConfigError, SourceError, store_error
from shardcam.engine.errors import storage_error as disk_error
from shardcam.engine.io import files
from shardcam.engine.io.urls import ask, at_once, require_url
from shardcam.engine.types import Place, RunPaths

_WHOLE = ("s3", "s3a", "gs", "gcs", "memory", "az", "abfs", "abfss", "adl", "oss", "oci")
_READ_ONLY = ("http", "https")
PROBE = ".shardcam-"  # how the name of a file begins that is written to see whether one can


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


def names(paths: RunPaths, folder: Path) -> set[str]:
    """What a folder of the run holds; nothing where there is none."""
    place = paths.place(folder)
    if isinstance(place, Path):
        try:
            return {entry.name for entry in place.iterdir()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise disk_error(error, place) from error
    with _reading(place):
        try:
            found = ask(place, lambda system: system.ls(place, detail=False))
        except FileNotFoundError:
            return set()
    return {str(name).rstrip("/").rpartition("/")[2] for name in found}


def sizes(paths: RunPaths, folder: Path) -> dict[str, int]:
    """Bytes of each file that a folder of a run at a URL holds."""
    place = str(paths.place(folder))
    with _reading(place):
        try:
            found = ask(place, lambda system: system.ls(place, detail=True))
        except FileNotFoundError:
            return {}
    return {
        entry["name"].rpartition("/")[2]: entry["size"]
        for entry in found
        if entry["type"] == "file"
    }


def exists(place: Place) -> bool:
    """Whether a file is there."""
    if isinstance(place, Path):
        return place.exists()
    with _reading(place):
        return files.exists(place)


def fetch(paths: RunPaths, path: Path) -> bool:
    """Bring a published file to `path` if it is at a URL; False if there is none."""
    place = paths.place(path)
    if isinstance(place, Path):
        return place.exists()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _reading(place):
        try:
            ask(place, lambda system: system.get_file(place, str(temporary)))
        except FileNotFoundError:
            return False
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(error, path.parent) from error
            raise
    temporary.replace(path)
    return True


def fetch_all(paths: RunPaths, wanted: Sequence[Path]) -> None:
    """Bring published files to their paths, many at a time, if they are at a URL.

    Raises
    ------
    StoreError, DiskFull
        One of them is missing or cannot be read, or there is no room for it.
    """
    if paths.url is None or not wanted:
        return
    for folder in {path.parent for path in wanted}:
        folder.mkdir(parents=True, exist_ok=True)
    remote, local = [str(paths.place(path)) for path in wanted], [str(path) for path in wanted]

    with _reading(paths.url):
        try:
            ask(paths.url, lambda system: system.get(remote, local, **at_once(system)))
        except FileNotFoundError as error:  # which does not say what is missing
            gone = next((url for url in remote if not files.exists(url)), paths.url)
            raise store_error(error, gone, "read") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(error, paths.root) from error
            raise


def put(paths: RunPaths, path: Path) -> None:
    """Publish a file that is complete at `path`, in the place of an older one."""
    place = paths.place(path)
    if isinstance(place, str):
        upload(path, place)


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
    if not sources:
        return
    if folder.partition("://")[0] not in _WHOLE:
        for source in sources:
            upload(source, f"{folder}/{source.name}")
        return
    local = [str(source) for source in sources]
    remote = [f"{folder}/{source.name}" for source in sources]
    with _writing(folder):
        ask(folder, lambda system: system.put(local, remote))


def remove(place: Place) -> None:
    """Delete a published file."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
        return
    with _writing(place):
        ask(place, lambda system: system.rm_file(place))


def move(source: Place, target: Place) -> None:
    """Give a published file another name."""
    if isinstance(source, Path):
        source.replace(target)
        return
    with _writing(source):
        if source.partition("://")[0] not in _WHOLE:
            folder = str(target).rpartition("/")[0]
            ask(folder, lambda system: system.makedirs(folder, exist_ok=True))
        ask(source, lambda system: system.mv(source, target))


def require_room_to_write(paths: RunPaths) -> None:
    """Write to the URL of a run and delete it again: better told now than after the work."""
    if paths.url is None:
        return
    probe = f"{paths.url}/{PROBE}{secrets.token_hex(8)}"
    with _writing(paths.url):
        ask(probe, lambda system: system.pipe_file(probe, b"shardcam"))
        ask(probe, lambda system: system.rm_file(probe))


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
