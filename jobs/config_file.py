"""The options of a run in a YAML file: what ``--config`` reads and ``--print-config`` writes."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError


def read_config_file(path: Path) -> dict[str, Any]:
    """The options that a file gives; it need not give all.

    Raises
    ------
    ConfigError
        One line that names the file and what is wrong: no YAML, an unknown key, a value of
        another type.
    """
    text = json.dumps(_mapping(path), default=str)  # what YAML takes for a date is a text here
    try:
        RunConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        wrong = [e for e in error.errors() if e["type"] != "missing"]
        if wrong:
            raise ConfigError(f"{path}: {_explain(wrong[0])}") from None
    given: dict[str, Any] = json.loads(text)
    return given


def config_yaml(config: RunConfig) -> str:
    """Every option that has a value, as a file that ``--config`` reads; paths are absolute."""
    values = config.absolute().model_dump(mode="json", exclude_none=True)
    plain = json.dumps(values, ensure_ascii=False).isprintable()  # else PyYAML breaks lines
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=plain, width=1000)
    return text


def _mapping(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{path}: {line}not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: must hold lines of the form `batch_size: 8`")
    return given


def _explain(error: ErrorDetails) -> str:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, RunConfig.model_fields, n=1)
        return f"unknown key {key!r}" + (f"; nearest: {near[0]}" if near else "")
    if error["type"] == "tuple_type":
        return f"{key}: must be a list, such as [A, B]"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"
