"""The ``shardcam`` command: one place where an error becomes a line and an exit code."""

from __future__ import annotations

import io
import logging
import sys
import traceback

import click

from shardcam.engine.errors import EXTRA_OF, InternalError, Interrupted, ShardcamError, needs
from shardcam.engine.io.plain_text import printable
from shardcam.jobs.sections import SectionedGroup
from shardcam.jobs.stopping import stop_on_signals

SECTIONS = {  # a command's name is that of its file in commands/
    "Extract": {
        "demo": "Try it on a few well-known photographs",
        "extract": "Extract class activation maps of images",
        "status": "Show the progress of a run",
        "verify": "Check that a run is complete and undamaged",
        "retry-failed": "Try images again that could not be read",
        "index": "Rebuild the index of a run",
    },
    "Results": {
        "report": "Show a run in a browser",
        "evaluate": "Measure how good the maps are",
        "cluster": "Find images that the network treats alike",
        "compare": "Compare the maps of runs, image by image",
        "similarity": "See how alike layers and networks are",
        "sanity": "See maps change as the weights are lost",
        "mosaic": "Make mosaics to test maps without truth",
        "export": "Write maps and features for other programs",
    },
    "Methods and networks": {
        "methods": "List the CAM methods",
        "layers": "List the layers of a network",
        "activations": "Draw what hidden layers compute",
        "filters": "Draw filters, or what channels respond to",
        "train-mnist": "Train a small network on digits",
    },
    "Clusters": {
        "submit": "Run extract as a job of a Ray cluster",
        "jobs": "List, follow, await and stop submitted jobs",
        "render": "Print a job file for Slurm or Kubernetes",
    },
    "This machine": {
        "doctor": "Check what a run needs: libraries, GPU, disk",
        "throughput": "Measure images per second",
    },
}


@click.group(
    cls=SectionedGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="shardcam COMMAND --help lists the options of a command and gives examples.",
)
@click.version_option(package_name="shardcam")
def cli() -> None:
    """Class activation maps of neural networks, over image sets of any size.

    \b
    Examples:
      shardcam demo
      shardcam extract photos --model efficientnet_lite0 --out runs/photos
      shardcam report runs/photos

    \b
    Exit codes: 0 done, 1 error, 2 something given cannot be used, 3 too many images failed,
    4 interrupted (the same command resumes), 5 disk full (the same command resumes).

    \b
    Completion in the shell, from ~/.bashrc (for zsh: zsh_source, for fish: fish_source):
      eval "$(_SHARDCAM_COMPLETE=bash_source shardcam)"
    """


def print_anything() -> None:
    """Escape what the terminal's encoding does not have, in place of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Told(logging.Handler):
    """Prints what the kernels log, once, however many processes say it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if (said := record.getMessage()) not in self._said:
            self._said.add(said)
            _tell(said)


def tell_of_kernels() -> None:
    """Say why nothing happens while kernels are compiled."""
    log = logging.getLogger("shardcam.kernels")
    if not log.handlers:
        log.addHandler(_Told())
        log.setLevel(logging.INFO)
        log.propagate = False  # a library may have logged by the root's handler, which makes one


def main() -> None:
    """Run the command line and exit."""
    print_anything()
    tell_of_kernels()
    try:
        with stop_on_signals("run the same command again"):  # from before the first import
            sys.exit(cli.main(prog_name="shardcam", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        from shardcam.jobs.usage_errors import usage_line

        _tell(printable(f"shardcam: {usage_line(error)}"))
        sys.exit(error.exit_code)
    except (ShardcamError, Interrupted) as error:
        _tell(printable(f"shardcam: {error}"))
        sys.exit(error.exit_code)
    except MemoryError:
        _tell("shardcam: out of memory: give it more, or a smaller --batch-size")
        sys.exit(1)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF:
            _tell(f"shardcam: this {needs(error.name)}")
            sys.exit(2)
        met, trace = "", traceback.format_exc().rstrip()
        if isinstance(error, InternalError):  # the worker's traceback
            met, trace = f", met {error.where}", error.trace
        report = f"shardcam: this is a bug{met}; please report it with all of the text above"
        _tell(printable(f"{trace}\n{report}", "\n"))
        sys.exit(1)


def _tell(text: str) -> None:
    """Print to the error output, if anybody can still read it."""
    from shardcam.jobs.terminal import outlived  # help and completion need no console

    with outlived(sys.stderr):
        click.echo(text, err=True)
