"""Command line options made from the fields of RunConfig: one name, one default, one text."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo

from shardcam.engine.config import (
    OPTION_GROUPS,
    PATH_OPTIONS,
    PLACE_OPTIONS,
    RESIZES,
    SAVEABLE,
    SMOOTHINGS,
    RunConfig,
    flag,
    typed_name,
)
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url
from shardcam.jobs.completion import (
    complete_list,
    complete_method,
    complete_model,
    complete_path,
)
from shardcam.jobs.config_file import read_config_file
from shardcam.jobs.sections import SectionedArgument, SectionedOption

F = TypeVar("F", bound=Callable[..., Any])

_COMMA = {  # given as one word, A,B,C
    "save": "WHAT[,WHAT...]",
    "smooth": "aug|eigen|aug,eigen",
    "extensions": "ENDING[,ENDING...]",
    "mean": "R,G,B",
    "std": "R,G,B",
    "image_size": "SIDE|HEIGHT,WIDTH",
    "background": "R,G,B",
    "scales": "SCALE[,SCALE...]",
}
_METAVARS = _COMMA | {
    **dict.fromkeys(("out", "root", "cache"), "FOLDER"),
    **dict.fromkeys(("params", "labels"), "FILE"),
    "label_data": "FILE[::DATASET]",
    **dict.fromkeys(("method", "layer", "activation_layer"), "NAME"),
    "model": "NAME|FILE",
    "target": "CLASSES",
    "randomise": "LAYER|head",
    "address": "HOST:PORT",
    "resize": "crop|squash|pad|shorter:N,crop|none",
    "depth_range": "auto|full|LOW,HIGH",
    "output": "NAME",
    "input": "NAME=NUMBERS",
}
_COMPLETE = {
    **dict.fromkeys(PATH_OPTIONS, complete_path),
    "model": complete_model,
    "method": complete_method,
    "save": complete_list(SAVEABLE),
    "resize": complete_list(RESIZES),
    "smooth": complete_list(SMOOTHINGS),
}
_GROUP_OF = {name: group for group, names in OPTION_GROUPS.items() for name in names}


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
        help="YAML file with any of these options, written with _ for -; options given here win. "
        "Relative paths in it start at the current folder.",
    )
    options = chosen_options(*_GROUP_OF, other=other, required=False)
    return lambda command: options(file(command))


def place_options(command: F) -> F:
    """Give a command that computes for a run the options of where and on what it does."""
    decorate: Callable[[F], F] = chosen_options(*PLACE_OPTIONS)
    return decorate(command)


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
            else:
                command = _parameter(name, RunConfig.model_fields[name], required)(command)
        return command

    return decorate


def make_config(values: dict[str, Any]) -> RunConfig:
    """Validate what was typed, on top of what the file of ``--config`` gives.

    Raises
    ------
    ConfigError
        One line for the first option that is wrong.
    """
    given = given_options(values)
    for name, info in RunConfig.model_fields.items():
        if info.is_required() and name not in given:
            raise ConfigError(f"{typed_name(name)} is missing: give it here or in --config")
    return RunConfig.of(**given)


def changed_config(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """The same configuration but for what was typed.

    Raises
    ------
    ConfigError
        One line for the first option that is wrong.
    """
    return RunConfig.of(**config.model_dump() | given_options(values))


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """What was typed, as fields of a configuration, on top of what the file of ``--config`` gives.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    given = {name: value for name, value in values.items() if value not in (None, ())}
    for name in _COMMA.keys() & given.keys():
        given[name] = tuple(part.strip() for part in given[name].split(","))
    file = given.pop("config", None)
    if file is not None:
        given = read_config_file(file) | given
    return given


def as_options(config: RunConfig, names: Iterable[str] = RunConfig.model_fields) -> list[str]:
    """Options of a configuration as they are typed: those that differ from their defaults."""
    typed: list[str] = []
    for name in names:
        value = getattr(config, name)
        if name == "source" or value == RunConfig.model_fields[name].default:
            continue
        if isinstance(value, bool):
            typed.append(flag(name))
        elif isinstance(value, tuple) and name not in _COMMA:
            typed += [f"{flag(name)}={one}" for one in value]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            typed.append(f"{flag(name)}={text}")
    return typed


def _parameter(name: str, info: FieldInfo, required: bool) -> Callable[[F], F]:
    text, section, completed = _help(info, required), _GROUP_OF[name], _COMPLETE.get(name)
    settings: dict[str, Any] = {"section": section, "shell_complete": completed}
    settings["required"] = required and info.is_required()
    if name == "source":
        return click.argument(name, cls=SectionedArgument, text=text, **settings)
    settings |= {"cls": SectionedOption, "help": text, "metavar": _METAVARS.get(name)}
    kind = _kind(info.annotation)
    if kind is bool:
        return click.option(f"{flag(name)}/--no-{flag(name)[2:]}", name, default=None, **settings)
    if typing.get_origin(kind) is typing.Literal:
        settings["type"] = click.Choice(typing.get_args(kind))
    elif name not in _COMMA:
        several = typing.get_origin(kind) is tuple
        settings |= {"multiple": True} if several else {"type": kind}
    return click.option(flag(name), name, **settings)


def _help(info: FieldInfo, required: bool) -> str:
    text = info.description or ""
    if info.is_required() and not required:  # click says it of the others
        return f"{text}  [required]"
    if info.is_required() or info.default in (None, False, ()):
        return text
    default = info.default
    told = ",".join(map(_plain, default)) if isinstance(default, tuple) else default
    return f"{text}  [default: {told}]"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _kind(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


class LocalPath(click.Path):
    """A path of this machine: a URL would become a folder called after its scheme."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if param is not None and is_url(str(value)):
            raise ConfigError(f"{param.opts[-1]} {value}: takes a path of this machine, not a URL")
        return super().convert(value, param, ctx)
