"""The CAM method of a run: which, whether it fits the layers, and how its terms are joined."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.protocols import Method
from shardcam.engine.types import AUTO, LayerInfo

if TYPE_CHECKING:
    from shardcam.engine.methods.registry import CamMethod
    from shardcam.engine.models.definition import NetworkDefinition

KERNEL_POSITIONS = 1024  # h*w that kpcacam takes: its matrix is that number squared


def method_of(config: RunConfig) -> CamMethod:
    """The method that was asked for.

    Raises
    ------
    ConfigError
        There is no such method.
    """
    from shardcam.engine.methods import METHODS

    if config.method not in METHODS:
        near = difflib.get_close_matches(config.method.lower(), METHODS, n=3, cutoff=0.5)
        known = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(METHODS)}"
        raise ConfigError(f"--method: unknown method {config.method!r}; {known}")
    return METHODS[config.method]


def bound_method(config: RunConfig) -> Method:
    """The method, with its terms added or, for `--smooth eigen`, projected."""
    from shardcam.engine.methods.combine import FirstComponent, Sum

    combine = FirstComponent() if "eigen" in config.smooth else Sum()
    return partial(method_of(config), combine=combine)


def attention_of(
    config: RunConfig, definition: NetworkDefinition, layer: LayerInfo
) -> tuple[str, ...]:
    """Layers whose attention the method reads for a map of `layer`.

    Raises
    ------
    ConfigError
        The network has none there.
    """
    from shardcam.engine.methods.registry import EACH_BLOCK
    from shardcam.engine.models.attention_layers import attention_layers

    return attention_layers(definition, layer, method_of(config).reads_attention == EACH_BLOCK)


def fuse_of(config: RunConfig) -> str:
    """How the maps of several layers become one heatmap."""
    return config.fuse or method_of(config).fuse


def comparing_method(config: RunConfig) -> Method:
    """The method that compares int8 with float32: the run's, or Grad-CAM for it.

    That is where the run's is slow, or reads more than a layer.
    """
    from shardcam.engine.methods import METHODS

    method = method_of(config)
    other = method.multi_pass or method.reads_attention
    return METHODS["gradcam"] if other else bound_method(config)


def require_explainable(config: RunConfig, layers: tuple[LayerInfo, ...]) -> None:
    """Refuse what the method cannot do at these layers.

    Raises
    ------
    ConfigError
        The message names the option and what to use instead.
    """
    method, name = method_of(config), config.method
    for info in layers:
        _require_layer(config, info)
    if method.explains_input and config.layer != (AUTO,):
        raise ConfigError(f"--method {name} explains the network's input: leave --layer out")
    if method.explains_input and config.precision != "fp32":
        raise ConfigError(f"--method {name} computes in float32: leave --precision out")
    if "eigen" in config.smooth and not method.supports_eigen_smooth:
        raise ConfigError(f"--smooth eigen: the map of {name} is not a sum of terms")
    if config.fuse and method.explains_input:
        raise ConfigError(f"--fuse joins layers, and --method {name} explains the network's input")
    if config.fuse is None and method.fuse == "mean":
        return
    option = "--fuse" if config.fuse else f"--method {name}"
    if len(layers) < 2:
        raise ConfigError(f"{option} joins several layers: give --layer more than once")
    if not {"heatmaps", "overlays"} & set(config.save):
        raise ConfigError(f"{option} joins heatmaps: add heatmaps or overlays to --save")


def _require_layer(config: RunConfig, info: LayerInfo) -> None:
    if not info.spatial:
        tokens = (
            "; if its rows are tokens of a picture, give --tokens" if len(info.shape) == 2 else ""
        )
        raise ConfigError(
            f"--layer {info.name}: its output {info.shape} has no height and width{tokens}"
        )
    if config.method == "cam" and not info.closed_form:
        raise ConfigError(
            f"--method cam needs global average pooling and one dense layer after "
            f"{info.name!r}; use --method gradcam, which works everywhere"
        )
    _, height, width = info.shape
    if config.method == "kpcacam" and height * width > KERNEL_POSITIONS:
        raise ConfigError(
            f"--method kpcacam takes layers of at most {KERNEL_POSITIONS} positions; "
            f"{info.name} has {height}x{width}: take a deeper layer, or --method eigencam"
        )
