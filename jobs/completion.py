"""Shell completion of values, beside click's own choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from shardcam.engine.config import LITE0

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_path(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders; the shell itself finds them."""
    return [CompletionItem(incomplete, type="file")]


def complete_list(names: Iterable[str]) -> Complete:
    """Names with commas between them, each once."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        fitting = (n for n in names if n.startswith(last) and n not in before.split(","))
        return [CompletionItem(f"{before}{comma}{name}") for name in fitting]

    return complete


def complete_method(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from shardcam.engine.methods import METHODS

    return [CompletionItem(name) for name in METHODS if name.startswith(incomplete)]


def complete_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The network that needs no file, or else files: naming the zoo would import MXNet."""
    if LITE0.startswith(incomplete):
        return [CompletionItem(LITE0)]
    return complete_path(context, parameter, incomplete)
