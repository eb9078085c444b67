"""What a listing leaves out: files by their endings, linked folders and their like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum

from shardcam.engine.readers.location import key_text
from shardcam.engine.types import Note

_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini")  # the hidden ones are not looked at
_ENDING = re.compile(r"(?=.*[^\d])\w{1,10}")
_MOST, _SHOWN = 1000, 5  # endings that are counted apart, and named
_NAMED = 3  # folders
NONE, OTHERS = "without an ending", "with others"
_PICTURES = (  # that cannot be read, whatever --extensions says
    *(".heic", ".heif", ".psd", ".svg", ".svgz", ".pdf", ".eps", ".xcf", ".djvu", ".jxl", ".dcm"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".mp4", ".mov"),
)
_OTHERS = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".log"),
    *(".zip", ".gz", ".tar", ".7z", ".rar", ".crdownload", ".part", ".py", ".h5", ".npy", ".npz"),
)


class Folder(Enum):
    """Why something that is no file was left out, of one and of several."""

    LINK = (
        "linked folder ({}); --follow-links follows it",
        "linked folders ({}); --follow-links follows them",
    )
    SEEN = (
        "link to a folder that was listed already ({})",
        "links to folders that were listed already ({})",
    )
    BROKEN = ("link that leads nowhere ({})", "links that lead nowhere ({})")
    RUN = ("run directory ({}), by its run.json", "run directories ({}), by their run.json")


class LeftOut:
    """Counts them; memory holds a few names, whatever there is."""

    def __init__(self) -> None:
        self._endings: Counter[str] = Counter()
        self._folders: Counter[Folder] = Counter()
        self._names: dict[Folder, list[str]] = {}

    def file(self, name: str) -> None:
        """A file whose ending is not taken; what systems leave everywhere does not count."""
        name = name.lower()
        if name in _SYSTEM:
            return
        stem, _, ending = name.rpartition(".")
        kind = f".{ending}" if stem and _ENDING.fullmatch(ending) else NONE
        if kind not in self._endings and len(self._endings) >= _MOST:
            kind = OTHERS
        self._endings[kind] += 1

    def folder(self, why: Folder, name: str) -> None:
        self._folders[why] += 1
        names = self._names.setdefault(why, [])
        if len(names) < _NAMED:
            names.append(key_text(name.rstrip("/")) or ".")

    def lines(self, but: Collection[str] = ()) -> list[str]:
        """A line for each kind; files whose ending is one of `but` are not mentioned."""
        lines = [text] if (text := self._files(but)) else []
        for why, count in sorted(self._folders.items(), key=lambda item: item[0].name):
            names = self._names[why]
            named = ", ".join([*names, *["..."] * (count > len(names))])
            lines.append(f"{count} {why.value[count > 1].format(named)}")
        return lines

    def notes(self, but: Collection[str] = ()) -> tuple[Note, ...]:
        """`lines`, to be told at the end of a run."""
        return tuple(Note("skipped", line) for line in self.lines(but))

    def _files(self, but: Collection[str]) -> str:
        met = Counter({kind: count for kind, count in self._endings.items() if kind not in but})
        if not met:
            return ""
        total, most = met.total(), met.most_common(_SHOWN)
        told = [f"{count} {kind}" for kind, count in most]
        if rest := total - sum(count for _, count in most):
            told.append(f"{rest} {OTHERS}")
        what = "files left out by their endings" if total > 1 else "file left out by its ending"
        return "; ".join([f"{total} {what}: {', '.join(told)}", *_advice(met)])


def _advice(endings: Collection[str]) -> Iterator[str]:
    """What helps for files of such endings."""
    if not {*_PICTURES, *_OTHERS}.issuperset(endings):
        yield "--extensions takes other endings, all that are wanted: jpg,png,xyz"
    if found := [kind for kind in _PICTURES if kind in endings]:
        yield f"{' '.join(found[:_SHOWN])} cannot be read: convert them"
