"""Help in sections: the options of a command, and the commands of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from importlib import import_module
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])
OTHER = "Other options"  # those that name no section


class SectionedOption(click.Option):
    """An option that names its section of the help."""

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


def section_option(section: str, **settings: Any) -> Callable[..., Callable[[F], F]]:
    """``click.option`` for the options of one section, with these settings."""
    return partial(click.option, cls=SectionedOption, section=section, **settings)


class SectionedArgument(click.Argument):
    """An argument that is explained in a section of the help."""

    def __init__(self, *args: Any, section: str, text: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section
        self.text = text

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The option and its help."""
        return self.human_readable_name, self.text


class SectionedCommand(click.Command):
    """A command whose help lists its options in the sections that they name."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order of their first options, the others last."""
        for title, records in sections_of(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)


def sections_of(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """The option and help of every documented parameter, by section."""
    found: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        title = getattr(param, "section", OTHER)
        if record is not None and (isinstance(param, click.Option) or title != OTHER):
            found.setdefault(title, []).append(record)
    return {title: records for title, records in found.items() if title != OTHER} | {
        OTHER: found[OTHER]  # --help at least
    }


class CommandFiles(Mapping[str, click.Command]):
    """Commands by name, each imported from its file in commands/ when it is used."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._names:
            raise KeyError(name)
        plain = name.replace("-", "_")
        command: click.Command = getattr(import_module(f"shardcam.jobs.commands.{plain}"), plain)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SectionedGroup(click.Group):
    """Commands in sections, each with a summary; only the one that runs is imported.

    `sections`: of each title, the commands' names with their summaries.
    """

    def __init__(
        self, name: str, *, sections: Mapping[str, Mapping[str, str]], **settings: Any
    ) -> None:
        self.sections = sections
        self.summaries = {name: text for part in sections.values() for name, text in part.items()}
        files = CommandFiles(tuple(self.summaries))
        commands = cast(MutableMapping[str, click.Command], files)  # nothing is added to it
        super().__init__(name, commands, **settings)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, their second columns aligned."""
        width = max(map(len, self.summaries))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands and the group's own options, importing no command."""
        names = [
            CompletionItem(name, help=text)
            for name, text in self.summaries.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)
