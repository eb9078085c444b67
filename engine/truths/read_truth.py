"""From a file or a folder that says where objects are to what is known of a run's pictures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.location import listing
from shardcam.engine.truths.truth import Truth
from shardcam.engine.truths.truth_classes import TruthClasses
from shardcam.engine.truths.truth_coco import read_coco
from shardcam.engine.truths.truth_cub import BOXES, IMAGES, LABELS, read_cub
from shardcam.engine.truths.truth_files import TruthFiles
from shardcam.engine.truths.truth_masks import VALUES, read_masks
from shardcam.engine.truths.truth_pictures import Pictures
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import TruthRows
from shardcam.engine.truths.truth_text import EXAMPLE, read_table, read_wsol
from shardcam.engine.truths.truth_xml import read_xml

WSOL = "localization.txt"
_KNOWN = (
    f"a table {EXAMPLE}, COCO's JSON, wsolevaluation's {WSOL}, or a folder of VOC's or ILSVRC's "
    "XML files, of CUB's text files or of PNG masks"
)
_BINARY = {b"\x89PNG": "a picture", b"\x1f\x8b": "gzip: unpack it", b"PK\x03\x04": "ZIP: unpack it"}


def read_truth(source: str, pictures: Pictures, classes: TruthClasses) -> Truth:
    """Read where the objects are in the pictures of a run.

    What a file is, is seen from its contents. Everything that cannot be used is counted:
    `Truth.notes`.

    Parameters
    ----------
    source
        A file or a folder of this machine; behind ``::`` the folder of the masks that
        wsolevaluation's files name, or what the values of PNG masks are: see
        `engine.truths.truth_masks.read_masks`.

    Raises
    ------
    SourceError
        It cannot be read, is of no form that is known, or has no object of a class of the run in
        any of the run's pictures.
    """
    if is_url(source):
        raise SourceError(f"{source}: a truth is read from this machine; copy it here")
    with listing(source):
        return _read(source, pictures, classes)


def _read(source: str, pictures: Pictures, classes: TruthClasses) -> Truth:
    name, _, detail = (source, "", "") if Path(source).exists() else source.partition("::")
    path = Path(name)
    if not path.exists():
        raise SourceError(f"{name}: no such file or folder")
    rows = TruthRows(name, pictures, classes)
    read = TruthFiles(path if path.is_dir() else path.resolve().parent)  # it may be a link
    form = (_of_folder if path.is_dir() else _of_file)(path, detail, rows, read)
    read.hash(detail, b"")
    return rows.truth(form, read.digest)


def _of_folder(folder: Path, detail: str, rows: TruthRows, read: TruthFiles) -> str:
    if (folder / WSOL).is_file():
        return read_wsol(folder, rows, read, _masks_of(detail))
    if all((folder / name).is_file() for name in (IMAGES, BOXES)):
        return read_cub(folder, rows, read)
    (annotations, linked), (masks, _) = (read.names(ending) for ending in (".xml", ".png"))
    rows.met(Problem.FOLDER, linked[0] if linked else "", len(linked))
    if annotations and masks:
        raise SourceError(
            f"{folder}: XML files ({annotations[0]}) and PNG files ({masks[0]}); name one folder"
        )
    if annotations:
        return read_xml(folder, annotations, rows, read)
    if masks:
        if detail not in ("", *VALUES):
            raise SourceError(f"{folder}::{detail}: masks are ::{', ::'.join(VALUES)}")
        return read_masks(folder, masks, rows, read, detail)
    there = ", ".join(sorted(p.name for p in islice(folder.iterdir(), 5))) or "nothing"
    raise SourceError(f"{folder}: no truth in it, but {there}; known is {_KNOWN}")


def _of_file(path: Path, detail: str, rows: TruthRows, read: TruthFiles) -> str:
    start = _start(path)
    if path.name == WSOL:
        return read_wsol(path.parent, rows, read, _masks_of(detail))
    if path.name in (IMAGES, BOXES, LABELS):
        return _of_folder(path.parent, detail, rows, read)
    if start[:1] in (b"{", b"["):
        return read_coco(path, rows, read)
    if start[:1] == b"<":
        return read_xml(path, [path.resolve().name], rows, read)
    for mark, what in _BINARY.items():
        if start.startswith(mark):
            raise SourceError(f"{path}: {what}; known is {_KNOWN}")
    if not start:
        raise SourceError(f"{path}: empty; known is {_KNOWN}")
    return read_table(path, rows, read)


def _start(path: Path) -> bytes:
    """The first bytes of a file that are no blanks."""
    if not path.is_file():  # a pipe would wait
        raise SourceError(f"{path}: not a regular file")
    with path.open("rb") as stream:
        return stream.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()


def _masks_of(detail: str) -> Path | None:
    if detail and not Path(detail).is_dir():
        raise SourceError(f"{detail}: no such folder; behind :: is that of the masks")
    return Path(detail) if detail else None
