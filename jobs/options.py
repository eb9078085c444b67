"""Command line options made from the fields of RunConfig: one name, one default, one text."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.jobs.config_file import read_config_file

F = TypeVar("F", bound=Callable[..., Any])

_COMMA = {  # given as one word, A,B,C
    "save": "WHAT[,WHAT...]",
    "smooth": "aug|eigen|aug,eigen",
    "mean": "R,G,B",
    "std": "R,G,B",
}


def run_options(command: F) -> F:
    """Give a command SOURCE, one option for each other field, and ``--config``."""
    decorate: Callable[[F], F] = run_options_but({})
    return decorate(command)


def run_options_but(other: Mapping[str, Callable[..., Any]]) -> Callable[[F], F]:
    """The same, with decorators of the caller's for some names."""
    file = click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="YAML file of these options, with _ for -; those given here win. Paths in it begin at "
        "this folder.",
    )
    options = chosen_options(*RunConfig.model_fields, other=other, required=False)
    return lambda command: options(file(command))


def chosen_options(
    *names: str, other: Mapping[str, Callable[..., Any]] | None = None, required: bool = True
) -> Callable[[F], F]:
    """Give a command the options of some fields, SOURCE as an argument; see `run_options_but`.

    `required`: those without a default must be typed.
    """

    def decorate(command: F) -> F:
        for name in reversed(names):
            if other and name in other:
                command = other[name](command)
            elif name == "source":
                command = click.argument("source", required=required)(command)
            else:
                command = _option(name, RunConfig.model_fields[name], required)(command)
        return command

    return decorate


def make_config(values: dict[str, Any]) -> RunConfig:
    """Validate what was typed, on top of what the file of ``--config`` gives.

    Raises
    ------
    ConfigError
        One line for the first option that is wrong.
    """
    given = {name: value for name, value in values.items() if value not in (None, ())}
    for name in _COMMA.keys() & given.keys():
        given[name] = tuple(part.strip() for part in given[name].split(","))
    file = given.pop("config", None)
    if file is not None:
        given = read_config_file(file) | given
    try:
        return RunConfig(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = typed_name(name)
        if first["type"] == "missing":
            raise ConfigError(f"{option} is missing: give it here or in --config") from None
        raise ConfigError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from None


def as_arguments(config: RunConfig) -> list[str]:
    """What to type for this configuration: options that differ from their defaults, SOURCE."""
    typed: list[str] = []
    for name, info in RunConfig.model_fields.items():
        value = getattr(config, name)
        if name == "source" or value == info.default:
            continue
        if isinstance(value, bool):
            typed.append(flag(name))
        elif isinstance(value, tuple) and name not in _COMMA:
            typed += [f"{flag(name)}={one}" for one in value]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            typed.append(f"{flag(name)}={text}")
    return [*typed, "--", config.source]


def stored_config(run: str | Path, stored: dict[str, Any]) -> RunConfig:
    """The options that a run was begun with.

    Raises
    ------
    RunDirectoryError
        Another version of shardcam wrote them.
    """
    try:
        return RunConfig.model_validate(stored)
    except ValidationError as error:
        option = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunDirectoryError(
            f"{run}/run.json: its option {option!r} is not one of this version of shardcam"
        ) from None


def flag(name: str) -> str:
    """``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def typed_name(name: str) -> str:
    """How messages call a field: as it is typed."""
    return "SOURCE" if name == "source" else flag(name)


def _option(name: str, info: FieldInfo, required: bool) -> Callable[[F], F]:
    needed = required and info.is_required()
    settings: dict[str, Any] = {"help": _help(info, required), "required": needed}
    kind = _kind(info.annotation)
    if kind is bool:
        return click.option(f"{flag(name)}/--no-{flag(name)[2:]}", name, default=None, **settings)
    if typing.get_origin(kind) is typing.Literal:
        settings["type"] = click.Choice(typing.get_args(kind))
    elif name in _COMMA:
        settings["metavar"] = _COMMA[name]
    elif typing.get_origin(kind) is tuple:
        settings["multiple"] = True
    else:
        settings["type"] = kind
    return click.option(flag(name), name, **settings)


def _help(info: FieldInfo, required: bool) -> str:
    text = info.description or ""
    if info.is_required() and not required:  # click says it of the others
        return f"{text}  [required]"
    if info.is_required() or info.default in (None, False, ()):
        return text
    default = info.default
    return f"{text}  [default: {','.join(default) if isinstance(default, tuple) else default}]"


def _kind(annotation: Any) -> Any:
    """The type without its `| None`."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation
