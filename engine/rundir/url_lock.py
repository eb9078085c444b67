"""One driver for a run at a URL: a small file there names the driver.

Object stores have no lock that ends with its holder.  So the holder creates ``.lock``, which
of two drivers at once S3, Google Cloud Storage and memory let only one do, and rewrites it
every `BEAT` seconds.  One that was not written for `SILENCE` seconds, or whose
process was of this machine and is gone, is stale and is taken over.  A process number alone
says little: another process may have it now, and in a container it is often the same.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from shardcam.engine.errors import ShardcamError, StoreError, storage_error
from shardcam.engine.io.plain_text import printable
from shardcam.engine.io.store import download, remove, upload
from shardcam.engine.rundir.staging import alive

BEAT = 15.0  # seconds between two signs of life
SILENCE = 90.0  # seconds without one until a driver counts as gone; clocks may differ a little
SETTLE = 2.0  # seconds in which another driver that saw the same may take the same lock
_PATIENCE = 5.0  # seconds to wait for a server when the lock is given back
_TRIES = (0.1, 0.5, 2.0)  # seconds after each try to create a lock that is there and is not
_mine: set[str] = set()  # ids of the locks that this process asked for


@dataclass(frozen=True)
class Holder:
    """The driver that holds the lock, as the lock file names it."""

    id: str
    host: str
    machine: str  # where its process number means something
    pid: Annotated[int, Field(ge=0, lt=1 << 31)]
    since: str
    heard: Annotated[float, Field(allow_inf_nan=False)]  # seconds since 1970, by its clock

    def __str__(self) -> str:
        ago = f"last seen {max(time.time() - self.heard, 0):.0f} s ago"
        return printable(f"process {self.pid} on {self.host} (since {self.since} UTC, {ago})")

    def lives(self) -> bool:
        """Whether it is still at work, as far as can be known from here."""
        if self.machine and self.machine == _machine():
            known = self.id in _mine if self.pid == os.getpid() else alive(self.pid)
            if not known:
                return False
        return time.time() - self.heard < SILENCE


class UrlLock:
    """The lock of a run at a URL.

    Parameters
    ----------
    url
        The lock.
    copy
        Where this process keeps what it reads of it.

    Attributes
    ----------
    abandoned : bool
        Whether the last holder died without giving it back; known when it is taken.
    """

    def __init__(self, url: str, copy: Path) -> None:
        self._url, self._copy = url, copy
        self.abandoned = False
        now = datetime.now(timezone.utc)
        self._own = Holder(
            secrets.token_hex(8),
            socket.gethostname(),
            _machine(),
            os.getpid(),
            f"{now:%Y-%m-%d %H:%M}",
            now.timestamp(),
        )
        self._done = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)

    def take(self) -> Holder | None:
        """Take the lock, or return its holder if there is another one."""
        _mine.add(self._own.id)
        holder = self._create()
        if holder is not None and holder.lives():
            return holder
        if holder is not None:
            self.abandoned = True
            self._write()
            time.sleep(SETTLE)
            now = read_holder(self._url, self._copy)
            if now is not None and now.id != self._own.id:  # the last one to write has it
                return now
        self._beating.start()
        return None

    def release(self) -> None:
        """Give it back, unless somebody else has taken it over."""
        self._done.set()
        if self._beating.is_alive():
            self._beating.join(_PATIENCE)
        with suppress(ShardcamError, OSError):  # it will soon be stale
            holder = read_holder(self._url, self._copy)
            if holder is not None and holder.id == self._own.id:
                remove(self._url)
        _mine.discard(self._own.id)

    def _create(self) -> Holder | None:
        """Who holds it already; None: it is ours."""
        for pause in _TRIES:
            if self._write(create=True):
                return None
            holder = read_holder(self._url, self._copy)
            if holder is not None:
                return None if holder.id == self._own.id else holder  # the answer was lost
            time.sleep(pause)  # it was given back in between
        raise StoreError(f"{self._url}: seems to exist but cannot be read; delete it")

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with suppress(ShardcamError, OSError):  # the next one may get through
                holder = read_holder(self._url, self._copy)
                if holder is not None and holder.id != self._own.id:
                    return  # taken over: this process was silent for too long
                self._write()

    def _write(self, create: bool = False) -> bool:
        text = json.dumps(asdict(replace(self._own, heard=time.time())))
        staged = self._copy.with_name(f".lock-{self._own.id}")
        try:
            staged.write_text(text)
            return upload(staged, self._url, create)
        except OSError as error:
            raise storage_error(error, staged.parent) from error
        finally:
            staged.unlink(missing_ok=True)


def read_holder(url: str, copy: Path) -> Holder | None:
    """Who holds the lock, or held it last; None if it is free. It is copied to `copy`."""
    if not download(url, copy):
        return None
    try:
        return TypeAdapter(Holder).validate_json(copy.read_bytes(), strict=True)
    except ValueError:  # not written by shardcam
        return Holder("", "an unknown host", "", 0, "?", 0.0)


def _machine() -> str:
    """Where process numbers are unique: a machine since its start, and a container on it."""
    with suppress(OSError):
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{started}.{os.stat('/proc/self/ns/pid').st_ino}"
    return ""
