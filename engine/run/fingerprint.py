"""The contents of ``run.json``: its options, its fingerprint, the versions of libraries."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shardcam.engine.config import RunConfig
from shardcam.engine.run.calibration import Calibration
from shardcam.engine.run.library_versions import version_of
from shardcam.engine.run.method_choice import fuse_of
from shardcam.engine.run.plan import Plan
from shardcam.engine.run.runtime_choice import TORCH
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.rundir.schema import SCHEMA_VERSION
from shardcam.engine.types import SOFTMAX, LayerInfo

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

ADDED = (
    "background",
    "decoder",
    "depth_range",
    "flip",
    "input",
    "output",
    "randomise",
    "rounding",
    "scales",
    "seed",
)  # since runs that must resume: left out at the default
LIBRARIES = (
    "mxnet",
    "torch",
    "torchcodec",
    "torchvision",
    "numpy",
    "numba",
    "opencv-python-headless",
    "pillow",
    "h5py",
    "onnx",
    "ray",
    "shardcam",
)


def make_manifest(
    config: RunConfig,
    plan: Plan,
    definition: NetworkDefinition,
    layers: tuple[LayerInfo, ...],
    read: tuple[LayerInfo, ...],
    calibration: Calibration | None,
    classes: int,
    target: str | None = None,
    target_mask: str | None = None,
) -> Manifest:
    """The manifest of a run that explains `layers` and saves the activations of `read`.

    `classes` is how many the network has; `target` is what the target is made of, where that is
    of a file or a run, and `target_mask` the digest of its mask: the same wherever those are.
    """
    return Manifest(
        config=config.absolute().model_dump(mode="json", exclude={"part"}),
        numbers=_numbers(config, plan, definition, layers, read)
        | ({"calibration": calibration.digest} if calibration else {})
        | ({"target": target} if target else {})
        | ({"target_mask": target_mask} if target_mask else {}),
        plan={
            "samples": plan.listed,
            "shards": plan.shards,
            "shard_size": plan.shard_size,
            "classes": classes,
        },
        versions={name: version_of(name) for name in LIBRARIES},
        classes=plan.listing.facts.classes,
    )


def _numbers(
    config: RunConfig,
    plan: Plan,
    definition: NetworkDefinition,
    layers: tuple[LayerInfo, ...],
    read: tuple[LayerInfo, ...],
) -> dict[str, Any]:
    """All that changes the numbers in the output files; its hash is the fingerprint."""
    return (
        {
            "schema": SCHEMA_VERSION,
            "model": definition.digest(),
            "preprocessing": _preprocessing(definition),
            "layer": [info.name for info in layers],
            "activation_layer": [info.name for info in read],
            "activation_dtype": config.activation_dtype,
            "method": config.method,
            "smooth": list(config.smooth),
            "fuse": fuse_of(config),
            "target": config.target,
            "precision": config.precision,
            "max_pixels": config.max_pixels,
            "fast_decode": config.fast_decode,
            "save": list(config.save),
            "overlays": _overlays(config) if "overlays" in config.save else None,
            "source": plan.listing.facts.digest,
            "shard_size": plan.shard_size,
        }
        | {
            name: getattr(config, name)
            for name in ADDED
            if getattr(config, name) != RunConfig.model_fields[name].default
        }
        | ({"runtime": TORCH} if config.runtime == TORCH else {})  # MXNet's is as it was before
        | ({"link": definition.link} if definition.link != SOFTMAX else {})
        | ({"lies_as": lies_as} if (lies_as := _lies_as(layers, read)) else {})
    )


def _preprocessing(definition: NetworkDefinition) -> dict[str, Any]:
    """Without the order of the channels where it is the one that runs of before had."""
    stored = asdict(definition.preprocessing)
    if stored["channels"] == "rgb":
        del stored["channels"]
    return stored


def _lies_as(*layers: tuple[LayerInfo, ...]) -> dict[str, str]:
    """Of what is laid out as a map: such layers were read as they lie before."""
    return {info.name: info.lies_as for infos in layers for info in infos if info.lies_as}


def _overlays(config: RunConfig) -> str:
    norm = ", divided by its maximum" if config.overlay_norm else ""
    return f"{config.overlay_format}, {config.colormap}, alpha {config.alpha:g}{norm}"
