"""The class of each folder right below a source: ``--label-from-folder``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.finding import RUN_MARK
from shardcam.engine.readers.labels import Names
from shardcam.engine.readers.location import key_text, listing
from shardcam.engine.types import Note, counted

_UNFINISHED = (".listing-", "listing.zip")  # of a run that has no run.json yet
_SHOWN = 5  # folders that are named


def folders_there(root: str, having: Collection[str]) -> list[str]:
    """Names of the folders right below a folder, sorted: linked and empty ones too.

    Hidden folders are not there, nor are links to the folder itself or to one above it, nor
    folders that hold runs and no image.

    Parameters
    ----------
    having
        Those that have images.

    Raises
    ------
    SourceError
        The folder cannot be listed.
    """
    found = {*having}
    with listing(root):
        for name in _subfolders(root):
            known = name.startswith(".") or key_text(name) in found
            if not known and not any(map(_is_run, _contents(f"{root}/{name}"))):
                found.add(key_text(name))
    return sorted(found)


def number_folders(
    root: str, folders: Sequence[str], having: Collection[str], names: Names
) -> tuple[dict[str, int], list[Note]]:
    """The class of each folder, and what is to be told of them.

    That is its number if all that have images are called by numbers; the class of its name
    if one of them is called as a class is, or all are as a run prints classes; else its
    position. Folders without images count, so that one which loses its last image does not move
    the others.

    Raises
    ------
    SourceError
        Only some of those that have images are called so, or two are the same class.
    """
    where = f"{root}: --label-from-folder"
    full = [name for name in folders if name in having]
    if not full:
        raise SourceError(
            f"{where} needs a folder for each class, with its images; without that, leave it out"
        )
    numbered = {name: int(name) for name in folders if _is_number(name)}
    named = {name: found for name in folders if (found := names.of(name)) is not None}
    numbers, words = ([name for name in full if name in some] for some in (numbered, names.classes))
    if len(numbers) == len(full):
        classes, how = numbered, "by their numbers"
    elif words or len([name for name in full if name in named]) == len(full):
        for name in full:
            if name not in named:
                raise SourceError(
                    f"{where}: folder {words[0]!r} has the name of a class and {name!r} has not: "
                    f"{names.problem(name)}; name all class folders so, or none"
                )
        classes, how = named, "by their names"
    elif numbers:
        other = next(name for name in full if name not in numbered)
        raise SourceError(
            f"{where}: folder {numbers[0]!r} is a class number and {other!r} is not; name all "
            "class folders by numbers, or none"
        )
    else:
        classes, how = {name: number for number, name in enumerate(folders)}, "in sorted order"
        how += f" (none is a name in --labels {names.file})" if names.file else ""
    first: dict[int, str] = {}
    for name in full:
        other = first.setdefault(classes[name], name)
        if other != name:
            raise SourceError(
                f"{where}: the folders {other!r} and {name!r} are the same class number; rename "
                "one, or move its images"
            )
    return classes, [*_told(classes, how, [name for name in folders if name not in having])]


def _told(classes: dict[str, int], how: str, empty: Iterable[str]) -> Iterator[Note]:
    ordered = sorted(classes, key=classes.__getitem__)
    table = [f"{classes[name]} {name}" for name in ordered]
    count = counted(len(table), "class folder")
    yield Note("labels", f"{count}, {how}: {_some(table)}")
    if empty := list(empty):
        yield Note("labels", f"no image in {counted(len(empty), 'folder')}: {_some(empty)}")


def _some(names: list[str]) -> str:
    """A few of them; ``run.json`` has all that are classes."""
    if len(names) <= _SHOWN + 1:
        return ", ".join(names)
    return ", ".join([*names[:_SHOWN], "...", names[-1]])


def _subfolders(root: str) -> list[str]:
    if is_url(root):
        return [name for _, below, _ in islice(files.walk(root), 1) for name in below]
    top = Path(root).resolve()
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if _is_folder(entry, top)]


def _is_folder(entry: os.DirEntry[str], top: Path) -> bool:
    """Whether it is a folder, or a link to one that does not hold `top` itself."""
    if not entry.is_symlink():
        return entry.is_dir()
    linked = Path(os.path.realpath(entry.path))
    return linked.is_dir() and not top.is_relative_to(linked)


def _contents(folder: str) -> Iterator[Collection[str]]:
    """Names of files in a folder and those below it; of a linked one, in itself."""
    found = files.walk(folder) if is_url(folder) else os.walk(folder)
    once = not is_url(folder) and Path(folder).is_symlink()
    return (names for _, _, names in islice(found, 1 if once else None))


def _is_run(names: Collection[str]) -> bool:
    return RUN_MARK in names or any(name.startswith(_UNFINISHED) for name in names)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10
