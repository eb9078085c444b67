"""Write what the pages here take from the code: the command line, the table of CAM methods.

``make docs-pages`` runs it. A page asks for a table by a line ``<!-- list of methods -->`` and a
line ``<!-- end -->``; what is between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from shardcam.engine.methods import METHODS
from shardcam.jobs.cli import SECTIONS, cli
from shardcam.jobs.sections import sections_of

Sections = dict[str, list[tuple[str, str]]]  # what is typed and what it means, by title
DOCS = Path(__file__).parent
COMMAND_LINE = DOCS / "command-line.md"
INTRODUCTION = """\
# Command line

<!-- Written by `make docs-pages`; change the help texts instead. -->
"""


def pages() -> dict[Path, str]:
    """Every page that is made from the code in whole or in part, and what it must contain."""
    written = {path: filled(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")}
    return written | {COMMAND_LINE: command_line()}


def filled(text: str) -> str:
    """A page with its blocks made anew."""
    return re.sub(
        r"(<!-- list of methods -->\n).*?(<!-- end -->)",
        lambda block: f"{block[1]}\n{methods_table()}\n{block[2]}",
        text,
        flags=re.DOTALL,
    )


def methods_table() -> str:
    """One row for each CAM method."""
    rows = ["| Method | What it does | Needs | Source |", "|---|---|---|---|"]
    for name, method in METHODS.items():
        does = cleandoc(method.formula.__doc__ or "").partition("\n")[0]
        rows.append(f"| `{name}` | {does} | {method.needs} | {method.paper} |")
    return "\n".join(rows) + "\n"


def command_line() -> str:
    """The page of all commands and options."""
    context = click.Context(cli, info_name="shardcam", **cli.context_settings)
    parts = [INTRODUCTION, *_help(cli)]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _command(cli.commands[name], name, context)
    return "\n".join(parts)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """A command's usage, help and options, then the commands in it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"### {context.command_path}\n"
    yield _code(f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}")
    yield from _help(command)
    yield from _options(sections_of(command, context), None if name == "extract" else _of_extract())
    if isinstance(command, click.Group):
        for inner in command.commands:
            yield from _command(command.commands[inner], inner, context)


def _options(sections: Sections, extract: Sections | None) -> Iterator[str]:
    """The options by section; whole sections of extract's are not repeated, but linked."""
    same = [
        title for title, records in sections.items() if extract and extract.get(title) == records
    ]
    if same:
        yield f"Options of [extract](#shardcam-extract): {', '.join(same)}.\n"
    for title, records in sections.items():
        own = [(typed, text) for typed, text in records if not typed.endswith("--help")]
        if title not in same and own:
            yield f"**{title if len(sections) > 1 else 'Options'}**\n"
            yield "\n".join(f"- `{typed}`: {' '.join(text.split())}" for typed, text in own) + "\n"


def _of_extract() -> Sections:
    command = cli.commands["extract"]
    return sections_of(command, click.Context(command))


def _help(command: click.Command) -> Iterator[str]:
    """Paragraphs of a help text; what click may not wrap and is indented becomes code."""
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.removeprefix("\b\n").split("\n")
        plain = [line for line in lines if not line.startswith(" ")]
        yield "\n".join(plain) + "\n"
        if len(plain) < len(lines):
            yield _code(cleandoc("\n".join(["", *lines[len(plain) :]])))


def _code(text: str) -> str:
    return f"```sh\n{text}\n```\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
