"""Truth in XML, a file for each picture: PASCAL VOC's and ILSVRC's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.location import key_text
from shardcam.engine.truths.truth import DIFFICULT, Sides
from shardcam.engine.truths.truth_files import TruthFiles
from shardcam.engine.truths.truth_problems import Problem
from shardcam.engine.truths.truth_rows import NO_BOX, TruthRows

LARGEST = 1 << 24  # bytes of a file
_DEEPEST = 16
_LONGEST = 1 << 12  # characters of a value
_WNID = re.compile(r"n\d{8}")
_SIZE = ("annotation/size/height", "annotation/size/width")
_OBJECT = "annotation/object"
_SIDES = tuple(f"{_OBJECT}/bndbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
_WANTED = {*_SIZE, *_SIDES, f"{_OBJECT}/name", f"{_OBJECT}/difficult"}


class _NoTruth(Exception):
    pass


@dataclass
class _Annotation:
    """The parts of an annotation that are wanted, as they are parsed."""

    values: dict[str, str] = field(default_factory=dict)  # of the picture
    objects: list[dict[str, str]] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def start(self, name: str, _: Any) -> None:
        self.path.append(name)
        self.text.clear()
        if len(self.path) > _DEEPEST:
            raise _NoTruth("it is nested too deep")
        if self.path == ["annotation", "object"]:
            self.objects.append({})
        elif len(self.path) == 1 and name != "annotation":
            raise _NoTruth(f"its root is <{name[:100]}> and not <annotation>")

    def end(self, _: str) -> None:
        place = "/".join(self.path)
        self.path.pop()
        if place in _WANTED:
            values = self.objects[-1] if place.startswith(_OBJECT) else self.values
            values[place] = "".join(self.text).strip()[:_LONGEST]
        self.text.clear()

    def data(self, text: str) -> None:
        self.text.append(text)


def read_xml(root: Path, names: Iterable[str], rows: TruthRows, read: TruthFiles) -> str:
    """Files below a folder that are called as their pictures are, but for the ending.

    Sides of PASCAL VOC's boxes count from 1 and are those of pixels in the box: x0 is xmin - 1 and
    x1 is xmax. Those of objects that are called by wnids, as ILSVRC's, are kept as they are, as
    wsolevaluation does. Boxes of parts of objects are not read.

    Raises
    ------
    SourceError
        None of them is an annotation.
    """
    wnids = count = 0
    for name in names:
        try:
            found = _parsed(read.read(name, LARGEST))
        except (OSError, ValueError, LookupError, expat.ExpatError, _NoTruth) as error:
            rows.met(Problem.FILE, f"{name}: {getattr(error, 'strerror', None) or error}")
            continue
        count += 1
        picture = rows.picture(key_text(name[:-4]), _size(name, found.values, rows))
        for number, values in enumerate(found.objects, 1):
            wnid = _WNID.fullmatch(cls := values.get(f"{_OBJECT}/name", "")) is not None
            wnids += wnid
            box = _sides([values.get(side, "") for side in _SIDES], 0 if wnid else 1)
            difficult = values.get(f"{_OBJECT}/difficult") == "1"
            rows.add(picture, rows.cls(cls), box, number, flags=DIFFICULT if difficult else 0)
    if not count:
        raise SourceError(f"{root}: no file in it is an annotation; {rows.problem_words()}")
    return "ILSVRC XML" if wnids else "VOC XML"


def _parsed(data: bytes) -> _Annotation:
    """An annotation, without any entity that the file declares itself."""
    found = _Annotation()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler, parser.EndElementHandler = found.start, found.end
    parser.CharacterDataHandler = found.data
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = _refused
    parser.Parse(data, True)
    return found


def _refused(*_: Any) -> int:
    raise _NoTruth("it declares entities, which are not read")


def _size(name: str, values: dict[str, str], rows: TruthRows) -> tuple[int, int] | None:
    sides = [values.get(side, "0") for side in _SIZE]
    if all(side.isascii() and side.isdigit() and len(side) < 10 and int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    if any(side.strip("0") for side in sides):
        rows.met(Problem.SIZE, f"{name}: {sides[1]}x{sides[0]}")
    return None


def _sides(texts: list[str], first: int) -> Sides:
    """Sides of a box whose pixels count from `first`."""
    try:
        x0, y0, x1, y1 = map(float, texts)
    except ValueError:
        return NO_BOX
    return x0 - first, y0 - first, x1, y1
