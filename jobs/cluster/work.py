"""What a cluster is given to do: one command of shardcam, for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from shardcam.engine.config import LITE0, PLACE_OPTIONS, RunConfig, typed_name
from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.completion import complete_path
from shardcam.jobs.options import as_options, changed_config, given_options, make_config
from shardcam.jobs.sections import SectionedOption

F = TypeVar("F", bound=Callable[..., Any])

_RETRY_TAKES = (*PLACE_OPTIONS, "max_failed")


def run_path(run: str) -> str:
    """A run directory as jobs know it."""
    return run if is_url(run) else str(Path(run).absolute())


@dataclass(frozen=True)
class Work:
    """An extraction, or another try for what failed in one."""

    config: RunConfig  # of the run; SOURCE and model are not known of one that is retried elsewhere
    retry: bool = False

    def words(self, *more: str) -> list[str]:
        """Return what is typed after ``shardcam``, with absolute paths and with `more` options.

        The address is not of it.
        """
        config = self.config.absolute().model_copy(update={"address": None})
        if self.retry:
            return ["retry-failed", *as_options(config, _RETRY_TAKES), *more, "--", config.out]
        return ["extract", *as_options(config), *more, "--", config.source]


def retry_option(command: F) -> F:
    """Give a command that takes the options of extract ``--retry-failed RUN``; see `work_of`."""
    decorate: Callable[[F], F] = click.option(
        "--retry-failed",
        metavar="RUN",
        cls=SectionedOption,
        section="Job",
        shell_complete=complete_path,
        help="Try the failed images of RUN again, in place of an extraction: takes the options of "
        "`shardcam retry-failed`.",
    )
    return decorate(command)


def work_of(values: dict[str, Any], retry_failed: str | None, elsewhere: bool) -> Work:
    """Make the work of what was typed.

    Parameters
    ----------
    values
        The options of extract, and ``config``.
    retry_failed
        The run to try again; None: an extraction.
    elsewhere
        That run is not to be looked for here.

    Raises
    ------
    ShardcamError
        An option is wrong or does not belong there, or there is no such run.
    """
    if retry_failed is None:
        return Work(make_config(values))
    given = given_options(values)
    for name in given.keys() - _RETRY_TAKES:
        raise ConfigError(f"{typed_name(name)}: not with --retry-failed, for it is of the run")
    if elsewhere and run_path(retry_failed) != retry_failed:
        raise ConfigError(f"--retry-failed {retry_failed}: give its absolute path on the cluster")
    if elsewhere:
        config = RunConfig(source=retry_failed, model=LITE0, out=retry_failed)
    else:
        stored = read_manifest(RunDir.open(retry_failed)).config
        config = stored_config(retry_failed, stored).model_copy(update={"out": retry_failed})
    return Work(changed_config(config, given), retry=True)
