"""What click finds wrong with a command line, in one line as the errors of the engine are."""

from __future__ import annotations

import click


def usage_line(error: click.ClickException) -> str:
    """Name the option or argument, what is wrong with it, and where the right ones are listed."""
    line = _wrong(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        line += f"; see {error.ctx.command_path} --help"
    return line


def _wrong(error: click.ClickException) -> str:
    nearest = getattr(error, "possibilities", None)  # of an option; since click 8.4 of a command
    near = f"; nearest: {', '.join(nearest)}" if nearest else ""
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option{near}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        kind = error.param.type
        choices = f": one of {', '.join(kind.choices)}" if isinstance(kind, click.Choice) else ""
        return f"{_typed(error.param)} is missing{choices}"
    text = " ".join(error.message.split()).removesuffix(".")
    if isinstance(error, click.BadOptionUsage):  # that it takes a value, or takes none
        return f"{error.option_name}: {text.removeprefix(f'Option {error.option_name!r} ')}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_typed(error.param)}: {text}"
    return f"{text[:1].lower()}{text[1:]}{near}"


def _typed(param: click.Parameter) -> str:
    """An option or an argument as it is typed."""
    return param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
