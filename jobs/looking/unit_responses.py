"""What the units of a network respond to: activation maximisation, and crops from a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardcam.engine.analysis.finished_run import Run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.class_names import ClassName
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import U1, LayerInfo
from shardcam.jobs.terminal import printable

if TYPE_CHECKING:
    from shardcam.engine.models.activation_maximisation import MaximisedUnits
    from shardcam.engine.models.definition import NetworkDefinition

EXAMPLES = "-examples.jpg"  # how the names of pictures of a run end
SHOWN = 6  # units of a layer, if none are named
STEPS = 128
_EXAMPLES = 7  # crops of a unit
_BATCH = 8  # units whose pictures are made at once
_SIDE = 224  # pixels of a made picture as it is saved
_CANVAS, _STEP = 64, 32  # pixels of a made picture: at least, and a multiple of


@dataclass(frozen=True)
class Subject:
    """The network whose units are drawn."""

    network: NetworkDefinition
    class_name: ClassName
    run: Run | None = None  # whose images are the examples
    config: RunConfig | None = None  # of that run


@dataclass(frozen=True)
class Wanted:
    """Which layers and units were asked for."""

    layers: tuple[str, ...]
    channels: tuple[int, ...] | None
    count: int | None

    def units(self, layer: str, width: int, most: int) -> list[int]:
        """The units of a layer to show: those named, or as many as wanted, evenly spread.

        Raises
        ------
        ConfigError
            The layer has no such unit.
        """
        if self.channels is None:
            count = min(self.count or most, width)
            return [int(unit) for unit in np.linspace(0, width - 1, count).round()]
        for unit in self.channels:
            if not 0 <= unit < width:
                raise ConfigError(f"--channels {unit}: {layer} has 0 to {width - 1}")
        return list(self.channels)


@dataclass(frozen=True)
class Ascent:
    """The options of activation maximisation."""

    steps: int
    seed: int


def draw_responses(
    subject: Subject, wanted: Wanted, ascent: Ascent | None, out: Path
) -> Iterator[str]:
    """Draw a picture of each layer, and report in one line where it is and what it shows."""
    from shardcam.engine.models.layer_names import resolve_layer
    from shardcam.jobs.looking.filter_pictures import enlarged_to, gallery, stacked
    from shardcam.jobs.looking.tiles import fitting, save_picture

    network = subject.network
    infos = [resolve_layer(network, name) for name in wanted.layers or _layers(subject)]
    chosen = [wanted.units(info.name, info.shape[0], SHOWN) for info in infos]
    for info, units in zip(infos, chosen, strict=True):
        names = _unit_names(subject, info, units)
        made = None if ascent is None else _maximise_activation(network, info, units, ascent)
        stem = layer_path(info.name)
        if subject.run is None and made is not None:
            path = out / f"{stem}-maximised.jpg"
            labels = [fitting(name, _SIDE) for name in names]
            picture = gallery(enlarged_to(made.pictures, _SIDE), labels, -(-len(units) // 2))
        else:
            path = out / f"{stem}{EXAMPLES}"
            picture = stacked(_rows(subject, info, units, names, made))
        save_picture(picture, path)
        yield f"{path}: {len(units)} of {info.shape[0]} channels{_rises(names, made)}"


def _layers(subject: Subject) -> list[str]:
    from shardcam.engine.models.filter_weights import stages

    if subject.run is None:
        return stages(subject.network)
    stored = subject.run.hidden_layers
    if not stored:
        raise ConfigError(
            "--examples: this run has no activations: extract with --save activations or pooled"
        )
    return [node.name for node in subject.network.graph.nodes if layer_path(node.name) in stored]


def _unit_names(subject: Subject, info: LayerInfo, units: list[int]) -> list[str]:
    graph = subject.network.graph
    if info.name != graph.nodes[graph.heads[0][0]].name:
        return [str(unit) for unit in units]
    return [f"{unit} {printable(subject.class_name(unit))}" for unit in units]


def _maximise_activation(
    network: NetworkDefinition, info: LayerInfo, units: list[int], ascent: Ascent
) -> MaximisedUnits:
    from shardcam.engine.models.activation_maximisation import MaximisedUnits, maximise_activation
    from shardcam.engine.models.unit_gradients import UnitGradients

    field, canvas = _canvas(network, info)
    gradients = UnitGradients(canvas, info.name, min(len(units), _BATCH))
    parts = [
        maximise_activation(
            gradients.of,
            np.array(units[first : first + _BATCH], np.int32),
            canvas.preprocessing,
            field,
            ascent.steps,
            ascent.seed,
        )
        for first in range(0, len(units), _BATCH)
    ]
    return MaximisedUnits(
        np.concatenate([part.pictures for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.end for part in parts]),
    )


def _canvas(network: NetworkDefinition, info: LayerInfo) -> tuple[float, NetworkDefinition]:
    """Side of a unit's receptive field in pixels, and the network for some four times as much.

    Up to a layer that sees only a part of its input, nothing depends on the input's size.
    """
    from shardcam.engine.models.receptive_field import receptive_field

    own = network.preprocessing
    seen = receptive_field(network, info.name, (0, 0)) if len(info.shape) == 3 else None
    if seen is None:
        return np.inf, network
    field = max(seen[2] - seen[0], seen[3] - seen[1])
    side = max(_CANVAS, -(-4 * int(field) // _STEP) * _STEP)
    if side >= min(own.height, own.width):
        return field, network
    return field, replace(network, preprocessing=replace(own, height=side, width=side))


def _rows(
    subject: Subject,
    info: LayerInfo,
    units: list[int],
    names: list[str],
    made: MaximisedUnits | None,
) -> list[tuple[str, U1]]:
    """A row for each unit: its made picture, if there are any, and its examples."""
    from shardcam.engine.models.receptive_field import receptive_field
    from shardcam.jobs.looking.filter_pictures import enlarged_to
    from shardcam.jobs.looking.tiles import tile
    from shardcam.jobs.looking.top_crops import SIDE, examples_of, view_share

    run, config, network = subject.run, subject.config, subject.network
    assert run is not None and config is not None
    size = network.preprocessing.height, network.preprocessing.width

    def field(place: tuple[int, int]) -> tuple[float, float, float, float]:
        return view_share(receptive_field(network, info.name, place), *size)

    found = examples_of(run, config, info.name, units, _EXAMPLES, field)
    rows, blank = [], np.full((SIDE, SIDE, 3), 255, np.uint8)
    for number, (name, examples) in enumerate(zip(names, found, strict=True)):
        crops = [example.crop for example in examples]
        labels = [f"{example.value:.3g}" for example in examples]
        if made is not None:
            crops.insert(0, enlarged_to(made.pictures[number : number + 1], SIDE)[0])
            labels.insert(0, "made")
        heading = name if " " in name else f"channel {name}"
        if not crops:
            heading, crops, labels = f"{heading}: no picture activated it", [blank], [""]
        rows.append((heading, tile(np.stack(crops), len(crops), labels=labels)))
    return rows


def _rises(names: list[str], made: MaximisedUnits | None) -> str:
    if made is None:
        return ""
    rises = zip(names, made.start, made.end, strict=True)
    return "; " + ", ".join(f"{name}: {start:.3g} -> {end:.3g}" for name, start, end in rises)
