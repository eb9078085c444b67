"""Whether maps depend on what the network has learnt: ``shardcam sanity``.

The cascade of Adebayo et al. ("Sanity checks for saliency maps", NeurIPS 2018): from the logits
down, more and more weights are drawn anew, and the maps of the same images and classes are held
against those of the trained network. Maps that stay alike show the picture, not the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.comparison import run_comparison
from shardcam.engine.evaluation.likeness import Comparison
from shardcam.engine.io.urls import is_url
from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.protocols import Observer
from shardcam.engine.run.build_executor import driver_threads
from shardcam.engine.run.extraction import run_extraction
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.run.option_conflicts import require_possible
from shardcam.engine.run.python_words import names_keywords
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.events import ignore
from shardcam.engine.rundir.own_names import require_outside_runs
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.rundir.schema import layer_path
from shardcam.engine.types import FROM_RUN, SIMILAR
from shardcam.engine.workers.threads import limit_threads

STEPS = 8
RESULT = "sanity.json"
_LONGEST = 60  # letters of a layer in the name of a folder


@dataclass(frozen=True)
class SanityStep:
    """One run of the cascade."""

    layer: str  # from which on to the logits weights are random
    layers: int  # with weights, that are so
    run: str
    comparison: Comparison  # with the run of the trained network


@names_keywords
def sanity(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    steps: int = STEPS,
    seed: int = 0,
    on_event: Observer = ignore,
    **place: Any,
) -> list[SanityStep]:
    """Run the cascade for a complete run, and compare each step with it.

    Each step is a run of its own below `out`, with the options of `run`, the classes that it
    explained and ``--randomise``; one that is complete already is not run again.

    Parameters
    ----------
    run
        The run of the trained network.
    out
        Folder of the runs of the cascade, and of ``sanity.json``.
    steps
        How many: the last layer with weights alone, and so on to all of them, evenly over the
        layers with weights.
    seed
        What weights are drawn from.
    on_event
        Is called with each event of each step's run, one of `shardcam.events`.
    place
        Where they are computed, as for `extract`: ``executor="local"``, ``workers=4``.

    Raises
    ------
    ConfigError
        The run is not of classes, or of random weights itself, or an option cannot be used.
    """
    if is_url(fspath(out)):
        raise ConfigError(f"out {fspath(out)}: takes a folder of this machine, not a URL")
    config = _config(fspath(run), place)
    return run_sanity(
        config, Path(fspath(out)), steps, seed, partial(run_extraction, on_event=on_event)
    )


def run_sanity(
    config: RunConfig,
    folder: Path,
    steps: int,
    seed: int,
    extract_one: Callable[[RunConfig], object],
) -> list[SanityStep]:
    """Do as `sanity`, with the options of a run, where it is computed, and what makes each step."""
    if config.target.startswith(SIMILAR):
        raise ConfigError(f"{config.out}: explains likeness, of which there is no class")
    if config.randomise is not None:
        raise ConfigError(f"{config.out}: its weights are random already (--randomise)")
    if "maps" not in config.save:
        raise ConfigError(f"{config.out}: has no maps; extract with --save maps")
    require_outside_runs("--out", folder)
    if steps < 1:
        raise ConfigError(f"--steps {steps}: takes a number from 1")
    require_possible(config)
    limit_threads(driver_threads(config))
    ready_libraries()
    from shardcam.engine.models.randomised import weighted_layers

    layers = weighted_layers(load_definition(config))
    found = []
    for number, count in enumerate(_counts(len(layers), steps), 1):
        layer = layers[-count]
        name = f"{number:02d}-{layer_path(layer)[:_LONGEST]}"
        changed = _step_config(config, str(folder / name), layer, seed)
        extract_one(changed)
        (compared,) = run_comparison([config.out, changed.out])
        found.append(SanityStep(layer, count, changed.out, compared))
    write_sanity(found, folder / RESULT, seed)
    return found


def _config(run: str, place: dict[str, Any]) -> RunConfig:
    config = stored_config(run, read_manifest(RunDir.open(run)).config)
    return RunConfig.of(**config.model_dump() | {"out": run} | place)


def _step_config(config: RunConfig, out: str, layer: str, seed: int) -> RunConfig:
    run = config.out if is_url(config.out) else str(Path(config.out).absolute())
    changed = {
        "out": out,
        "target": FROM_RUN + run,
        "randomise": layer,
        "seed": seed,
        "save": ("maps",),
        "activation_layer": (),
        "activation_dtype": "f4",
        "max_failed": None,
    }
    return RunConfig.of(**config.model_dump() | changed)


def _counts(layers: int, steps: int) -> list[int]:
    """Layers that are random in each step: from the last alone to all of them."""
    if not layers:
        raise ConfigError("the network has no layer with weights")
    counts = np.linspace(1, layers, min(steps, layers)).round().astype(int)
    return [int(count) for count in np.unique(counts)]


def write_sanity(steps: Sequence[SanityStep], path: Path, seed: int) -> None:
    """What was found, as JSON."""
    rows = [
        {"randomised_from": one.layer, "layers": one.layers, "run": one.run}
        | {"comparison": one.comparison.as_json()}
        for one in steps
    ]
    text = json.dumps({"seed": seed, "steps": rows}, indent=2, allow_nan=False)
    with whole_file(path) as stream:
        stream.write(f"{text}\n".encode())
