"""Messages of functions of the library, whose callers type keywords and no options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ShardcamError

P = ParamSpec("P")
R = TypeVar("R")
_OPTION = re.compile(r"(?:\b(extract|evaluate|compare) )?(?<![\w-])--([a-z][a-z-]*)")
_CLAUSE = re.compile(r"[;:,(]")
_PROGRAM = re.compile(r"\b(shardcam|pip)\b")  # whose options are typed


def names_keywords(function: Callable[P, R], also: Iterable[str] = ()) -> Callable[P, R]:
    """Have a function's errors say `batch_size` for ``--batch-size``, `replace=True` for a flag.

    Options of other programs and commands stay as they are. `also` are keywords of a function that
    are neither its parameters nor options of a run.
    """
    own = inspect.signature(function).parameters
    known = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    known |= {name: parameter.annotation for name, parameter in own.items()}
    known |= dict.fromkeys(also)

    def keyword(match: re.Match[str]) -> str:
        call, option = match.groups()
        name = option.replace("-", "_")
        name = name if name in known else name.partition("_")[0]  # --retry-unreadable
        before = _CLAUSE.split(match.string[: match.start()])[-1]
        if _PROGRAM.search(before) or (name not in known and match.start()):
            return match.group()
        word = f"{name}=True" if known.get(name) in (bool, "bool") else name
        if call:
            return f"{call}(..., {word})" if "=" in word else f"{call}, {word}"
        return word

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ShardcamError as error:
            if error.args:
                error.args = (_OPTION.sub(keyword, str(error.args[0])), *error.args[1:])
            raise

    return called
