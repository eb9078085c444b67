"""Listing a source: once for a run, streaming, onto disk.

The listing is written under a name of its own in the run directory and gets its final
one when the run directory is open: a process killed on the way leaves a file that is
never read, and a refused run leaves nothing.  Memory holds one block of samples, and 8 bytes
for each sample to find keys that come twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import SourceError, storage_error
from shardcam.engine.rundir.listing import (
    BLOCK,
    FACTS,
    LARGEST,
    SAMPLE_FIELDS,
    VERSION,
    Listing,
    ListingFacts,
    block_name,
    facts_checksum,
    identity,
)
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.staging import fsync_directory, new_directory
from shardcam.engine.types import NO_LABEL, Sample, SourceNotes

NAMES = "labels"  # the option that is of the origin only where names can decide labels
_ROW = attrgetter(*SAMPLE_FIELDS)


@contextmanager
def run_listing(
    run_dir: RunDir,
    origin: dict[str, Any],
    samples: Callable[[], Iterable[Sample]],
    notes: Callable[[], SourceNotes] = SourceNotes,
) -> Iterator[Listing]:
    """Give the listing of the run that the directory holds, or make one of `samples`.

    A new one is saved when the ``with`` block is done; if that raises, nothing is left. One
    without a ``run.json`` beside it is of a run that never began, and is replaced.

    Parameters
    ----------
    origin
        The options that decide what is listed: a saved listing of others is not used.
    samples
        Lists the source.
    notes
        Is asked when it is listed what was met besides samples.

    Raises
    ------
    SourceError
        Two samples have the same key, or names are too long.
    RunDirectoryError, DiskFull
        The saved listing is damaged, or the new one cannot be written.
    """
    if run_dir.fetch(run_dir.listing):
        saved = Listing(run_dir.listing, shared=run_dir.shared)
        if _is_of(saved.facts.origin, origin) and run_dir.exists(run_dir.run_json):
            yield saved
            return
    staged, listing = run_dir.listing_staging_path(), None
    with new_directory(run_dir.root):
        try:
            hashes = _write(staged, origin, samples(), notes)
            listing = Listing(staged, shared=run_dir.shared)
            _require_unique(listing, hashes)
            yield listing
            with _storage(run_dir.root):
                listing.publish(run_dir.listing)
                fsync_directory(run_dir.root)
            run_dir.put(run_dir.listing)
        except BaseException:
            if listing is not None:
                listing.close()
            with suppress(OSError):
                staged.unlink()
            raise


def _is_of(saved: dict[str, Any], origin: dict[str, Any]) -> bool:
    return saved == {n: value for n, value in origin.items() if n != NAMES or n in saved}


def _write(
    path: Path,
    origin: dict[str, Any],
    samples: Iterable[Sample],
    notes: Callable[[], SourceNotes],
) -> array[int]:
    """Write all samples to a file, and return the hashes of their keys."""
    writer = _Writer(path)
    try:
        source = iter(samples)
        while block := tuple(islice(source, BLOCK)):
            writer.add(block)
        writer.finish(origin, notes())
    finally:
        writer.close()
    return writer.hashes


class _Writer:
    """A listing that is being written."""

    def __init__(self, path: Path) -> None:
        self._directory = path.parent
        with _storage(self._directory):
            self._stream = path.open("xb")
        self._archive = ZipFile(self._stream, "w", ZIP_DEFLATED, compresslevel=1)
        self._created = datetime.now(timezone.utc).isoformat()
        self._samples = self._labelled = self._key_bytes = 0
        self._label_range: list[int] = []
        self._digest = hashlib.sha256()
        self.hashes = array("q")  # of the keys

    def add(self, block: Sequence[Sample]) -> None:
        """Append samples: as many as a block holds, or the last ones."""
        keys = [sample.key for sample in block]
        name = block_name(self._samples // BLOCK)
        self._samples += len(block)
        labels = [sample.label for sample in block if sample.label != NO_LABEL]
        self._labelled += len(labels)
        if labels := [*self._label_range, *labels]:
            self._label_range = [min(labels), max(labels)]
        self._key_bytes = max(self._key_bytes, *(len(key.encode()) for key in keys))
        self._digest.update("".join(map(identity, block)).encode())
        self.hashes.extend(map(_key_hash, keys))
        self._store(name, json.dumps(list(map(_ROW, block)), separators=(",", ":")))

    def finish(self, origin: dict[str, Any], met: SourceNotes) -> None:
        """Say what was listed, and wait until the disk has it."""
        facts = ListingFacts(
            created=self._created,
            origin={n: value for n, value in origin.items() if n != NAMES or met.named},
            fields=list(SAMPLE_FIELDS),
            samples=self._samples,
            block=BLOCK,
            labelled=self._labelled,
            key_bytes=self._key_bytes,
            digest=self._digest.hexdigest(),
            notes=[[note.kind, note.text] for note in met.notes],
            classes=met.classes,
            label_range=self._label_range,
            sizes=[met.sizes.distinct, *met.sizes.largest, met.sizes.pixels] if met.sizes else [],
        )
        checksum = facts_checksum(asdict(facts), [info.CRC for info in self._archive.infolist()])
        stored = {"version": VERSION, "checksum": checksum, **asdict(facts)}
        self._store(FACTS, json.dumps(stored, indent=2))
        with _storage(self._directory):
            self._archive.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def _store(self, name: str, text: str) -> None:
        if len(text) > LARGEST:  # it would not be read again
            raise SourceError(
                f"the names of the last {BLOCK} of {self._samples} samples, or of their class "
                f"folders, take more than {LARGEST >> 20} MiB: shorten them"
            )
        with _storage(self._directory):
            self._archive.writestr(name, text)

    def close(self) -> None:
        """Close the files, whatever state they are in."""
        with suppress(OSError):
            self._archive.close()
        with suppress(OSError):
            self._stream.close()


def _key_hash(key: str) -> int:
    """64 bits; the same only while this process lives."""
    return hash(key)


def _require_unique(listing: Listing, hashes: array[int]) -> None:
    """Look for keys that come twice, and compare the keys themselves where hashes are equal."""
    ordered: npt.NDArray[np.int64] = np.frombuffer(hashes, np.int64)
    ordered.sort()  # in place
    for repeated in np.unique(ordered[1:][ordered[1:] == ordered[:-1]]):
        seen: dict[str, Sample] = {}
        for sample in listing:
            if _key_hash(sample.key) != repeated:
                continue
            other = seen.setdefault(sample.key, sample)
            if other is not sample:
                raise SourceError(
                    f"two samples have the key {sample.key!r}: number {other.index} "
                    f"({other.location}) and number {sample.index} ({sample.location}); in a "
                    "manifest a column `key` tells them apart"
                )


@contextmanager
def _storage(directory: Path) -> Iterator[None]:
    """Turn errors of the disk into one of ours."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, directory) from error
