"""``shardcam filters``: the filters of a network, and what its units respond to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.config import RunConfig, flag
from shardcam.engine.errors import ConfigError
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.run.class_names import ClassName, class_names
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.completion import complete_model
from shardcam.jobs.looking.unit_responses import (
    EXAMPLES,
    SHOWN,
    STEPS,
    Ascent,
    Subject,
    Wanted,
    draw_responses,
)
from shardcam.jobs.options import chosen_options, make_config
from shardcam.jobs.outputs import NEW_PLACE, require_folder
from shardcam.jobs.sections import SectionedCommand, SectionedOption, section_option
from shardcam.jobs.source_files import require_no_source
from shardcam.jobs.terminal import make_console, printable

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

FILTERS, DEEP_FILTERS = 64, 12  # shown of a layer, if none are named


_drawing_option = section_option("What is drawn")


@click.command(cls=SectionedCommand)
@click.argument("model", shell_complete=complete_model)
@chosen_options(
    *("params", "output", "input", "rounding", "link", "image_size", "mean", "std", "tokens"),
    "labels",
)
@click.option(
    "--input-channels", type=click.Choice(["rgb", "bgr"]), cls=SectionedOption,
    section="Network and its input",
    help="Order in which MODEL takes the colours, which extract calls --channels.",
)  # fmt: skip
@_drawing_option(
    "--layer", "layers", multiple=True,
    help="Layer, repeatable; `shardcam layers --all` lists them  [default: the first convolution; "
    "with --examples those of the run; with --maximise one per resolution, and the classes]",
)  # fmt: skip
@_drawing_option("--channels", metavar="N[,N...]", help="Channels, or classes, to draw.")
@_drawing_option(
    "--count", type=click.IntRange(min=1),
    help=f"Number of channels, evenly spread  [default: {FILTERS} of the first convolution, "
    f"{DEEP_FILTERS} of others, {SHOWN} with --examples or --maximise]",
)  # fmt: skip
@_drawing_option(
    "--examples", "run", type=click.Path(path_type=Path), metavar="RUN",
    help="Show the crops that activated each channel most in RUN, which was made with --save "
    "activations or --save pooled; its images are read again.",
)  # fmt: skip
@_drawing_option(
    "--maximise", is_flag=True,
    help="Activation maximisation: make the image that each channel responds to most.",
)  # fmt: skip
@_drawing_option("--steps", type=click.IntRange(min=1), default=STEPS, show_default=True,
                 help="Steps of gradient ascent.")  # fmt: skip
@_drawing_option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Seed of the noise that gradient ascent starts from.")  # fmt: skip
@_drawing_option(
    "--out", type=NEW_PLACE, default=Path("filters"), show_default=True,
    help="Folder to write the pictures to; those of the same name are replaced.",
)  # fmt: skip
def filters(
    layers: tuple[str, ...],
    channels: str | None,
    count: int | None,
    run: Path | None,
    maximise: bool,
    steps: int,
    seed: int,
    out: Path,
    input_channels: str | None,
    **network_options: Any,
) -> None:
    """Draw the filters of MODEL's convolutions, or what its channels respond to.

    \b
    Examples:
      shardcam filters efficientnet_lite0
      shardcam filters efficientnet_lite0 --layer block2_depthwise_conv --layer head_conv
      shardcam filters efficientnet_lite0 --maximise
      shardcam filters efficientnet_lite0 --maximise --layer fc --channels 130,340
      shardcam filters efficientnet_lite0 --examples runs/photos --maximise
    """
    require_folder("--out", out)
    limit_threads(usable_cores())
    ready_libraries()
    wanted = Wanted(layers, _numbers(channels), count)
    console = make_console()
    fixed = {"channels": input_channels, "source": ".", "out": "."}
    named = make_config({**network_options, **fixed})
    with ExitStack() as stack:
        if run is None:
            network, names = _load(named)
            subject = Subject(network, names)
        else:
            config = stored_config(run, read_manifest(RunDir(run)).config)
            network, names = _load(_as_in_run(named, config))
            _require_same_network(run, network)
            require_no_source("--out", out.glob(f"*{EXAMPLES}"), [run])
            opened = stack.enter_context(open_run(run))
            subject = Subject(network, names, opened, config.model_copy(update={"out": str(run)}))
        if maximise or run is not None:
            ascent = Ascent(steps, seed) if maximise else None
            lines = draw_responses(subject, wanted, ascent, out)
        else:
            lines = _draw_weights(network, wanted, out)
        for line in lines:
            console.print(printable(line), soft_wrap=True)


def _numbers(channels: str | None) -> tuple[int, ...] | None:
    if channels is None:
        return None
    try:
        return tuple(dict.fromkeys(int(number) for number in channels.split(",")))
    except ValueError:
        raise ConfigError(f"--channels: numbers with commas, as 3,7; not {channels!r}") from None


def _load(config: RunConfig) -> tuple[NetworkDefinition, ClassName]:
    from shardcam.engine.models.layer_names import class_count

    network = load_definition(config)
    known = config.model_copy(update={"link": network.link})
    return network, class_names(known, class_count(network))


_AS_IN_RUN = (
    *("output", "input", "rounding", "link", "image_size", "channels", "mean", "std", "tokens"),
)


def _as_in_run(named: RunConfig, run: RunConfig) -> RunConfig:
    """The network with the input that it had in a run."""
    own = {name: getattr(run, name) for name in _AS_IN_RUN}
    for name, value in own.items():
        if getattr(named, name) not in (RunConfig.model_fields[name].default, value):
            option = flag("input_channels" if name == "channels" else name)
            raise ConfigError(f"{option}: differs from that of the --examples run; leave it out")
    return named.model_copy(update=own)


def _require_same_network(run: Path, network: NetworkDefinition) -> None:
    if read_manifest(RunDir(run)).numbers.get("model") != network.digest():
        raise ConfigError(
            f"--examples {run}: made with another network than {network.name}, other weights; "
            "give MODEL and --params as they were for that run"
        )


def _draw_weights(network: NetworkDefinition, wanted: Wanted, out: Path) -> Iterator[str]:
    """Draw the filters of each layer; say of each picture where it is and what is in it."""
    from shardcam.engine.models.filter_weights import filters_of
    from shardcam.engine.models.layer_names import resolve_layer
    from shardcam.jobs.looking.filter_pictures import colour_filters, signed_filters
    from shardcam.jobs.looking.tiles import save_picture

    first, _ = filters_of(network)
    for layer in wanted.layers or (first,):
        name, weights = filters_of(network, resolve_layer(network, layer).name)
        number, inputs, height, width = weights.shape
        on_colours = name == first and inputs in (1, 3)
        units = wanted.units(name, number, FILTERS if on_colours or inputs == 1 else DEEP_FILTERS)
        path = out / f"{layer_path(name)}-filters.png"
        if on_colours and network.preprocessing.channels == "bgr":
            weights = weights[:, ::-1]
        draw = colour_filters if on_colours else signed_filters
        save_picture(draw(weights, units), path)
        size = f"{height}x{width} on {inputs} channel{'s' if inputs > 1 else ''}"
        yield f"{path}: {len(units)} of {number} filters, each {size}"
