"""``--resize none``: networks that take pictures of any size, and what such runs cannot have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shardcam.engine.config import NATIVE, RunConfig
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.run_json import Manifest, is_raised
from shardcam.engine.types import SIMILAR, Note, counted

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition
    from shardcam.engine.models.open_size import OpenSize
    from shardcam.engine.pipeline.sized_batches import Refusal
    from shardcam.engine.types import Copies

_OF_ONE_SIZE = {"activations": "pooled", "heatmaps": "maps"}  # outputs, and what to save instead
_UNUSED = ("interpolation", "fast_decode")  # options of resizing


def require_own_size_possible(config: RunConfig) -> None:
    """Refuse options that exclude one another where pictures keep their size, or do not.

    Raises
    ------
    ConfigError
        The message names them.
    """
    fields = RunConfig.model_fields
    if config.resize != NATIVE:
        for name in ("scales", "flip"):
            if getattr(config, name) != fields[name].default:
                raise ConfigError(f"--{name}: is for images at their own size: add --resize none")
        return
    if config.image_size is not None:
        raise ConfigError(
            "--image-size: with --resize none each image has its own size; leave one of them out"
        )
    for name in _UNUSED:
        if getattr(config, name) != fields[name].default:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option}: with --resize none nothing is resized; leave it out")
    if config.target.startswith(SIMILAR):
        raise ConfigError(
            f"--target {config.target}: compares images of one size; leave --resize none out"
        )
    for name, instead in _OF_ONE_SIZE.items():
        if name in config.save:
            raise ConfigError(
                f"--save {name}: with --resize none they have a size for each image; save "
                f"{instead} instead"
            )
    _require_mxnet(config)
    if config.decode_processes:
        raise ConfigError(
            "--decode-processes: with --resize none threads of the worker decode; leave it out"
        )


def require_same_limit(config: RunConfig, stored: Manifest) -> None:
    """Refuse to let a run grow whose listing is in the order of sizes.

    Raises
    ------
    ConfigError
        It names the limit that the run has.
    """
    limit = stored.config.get("limit")
    if stored.config.get("resize") == NATIVE and config.limit != limit:
        had = f"--limit {limit}" if limit else "no --limit"
        shrinks = is_raised(config.limit, limit)
        why = (
            f"has {counted(stored.plan['samples'], 'image')} already"
            if shrinks
            else "cannot grow with --resize none"
        )
        raise ConfigError(
            f"--limit: this run was begun with {had}, and {why}; give that, or another --out"
        )


def own_size_notes(
    config: RunConfig, network: OpenSize, layers: Sequence[str], plan: Plan
) -> Iterator[Note]:
    """How many sizes there are, which fit no memory, and whose the scores are if not scale 1's."""
    sizes = plan.listing.sizes
    if sizes and sizes.distinct:
        height, width = sizes.largest
        text = f"{counted(sizes.distinct, 'size')} of images, the largest {width}x{height} pixels"
        yield Note("sizes", text)
        here = config.executor == "local"
        if refusal := limits_of(config, network, layers, here).refuse(height, width):
            yield Note("warning", f"images of {width}x{height} pixels will fail: {refusal.message}")
    if 1.0 not in config.scales:
        yield Note("sizes", f"scores are those of the images at scale {config.scales[0]:g}")


def looks_at(config: RunConfig, definition: NetworkDefinition, plan: Plan) -> float:
    """How many times as many pixels of an image the network is given as its own input has."""
    copies, sizes = config.copies, plan.listing.sizes
    if copies is None or sizes is None:
        return 1.0
    own = definition.preprocessing
    area = sizes.pixels / max(plan.listed, 1) / (own.height * own.width)
    return area * sum(scale**2 for scale in copies.scales) * (1 + copies.flip)


def open_size(config: RunConfig, one_graph: bool | None = None) -> OpenSize:
    """The network that options name, at any size of its input.

    `one_graph`: what the driver found out, see `engine.models.open_size.OpenSize`.

    Raises
    ------
    ConfigError, ModelError
        It cannot be loaded, takes images of one size only, or gives a class for each pixel.
    """
    from shardcam.engine.models import definition
    from shardcam.engine.models.onnx.onnx_file import OnnxFile
    from shardcam.engine.models.open_size import OpenSize
    from shardcam.engine.run.network_choice import load_definition

    _require_mxnet(config)
    onnx = config.model.endswith(".onnx") and config.params is None
    opened = OnnxFile(Path(config.model)) if onnx else None

    def load(size: tuple[int, int] | None) -> NetworkDefinition:
        return load_definition(config.model_copy(update={"image_size": size}), opened)

    network = OpenSize(load, one_graph)
    if network.own.prediction is not None:
        raise ConfigError(
            f"--resize none: {network.own.name} gives a class for each pixel; give --image-size "
            "without it"
        )
    own = network.own
    told = definition.open_size(own.preprocessing.height, own.preprocessing.width)
    network.own = replace(own, remarks=tuple(text for text in own.remarks if text != told))
    return network


def _require_mxnet(config: RunConfig) -> None:
    if config.runtime == "torch":
        raise ConfigError("--resize none: is for --runtime mxnet; give --image-size without it")


def limits_of(
    config: RunConfig, network: OpenSize, layers: Sequence[str], here: bool = True
) -> Limits:
    """Which sizes of pictures the network takes; `here`: the memory is that of this process."""
    from shardcam.engine.models.free_memory import free_memory
    from shardcam.engine.models.memory import require_memory

    assert config.copies is not None
    known = here and not config.gpus_per_worker

    def fits(definition: NetworkDefinition) -> None:
        require_memory(definition, layers, 1, 1, free_memory() if known else None)

    return Limits(network, config.copies, fits)


class Limits:
    """Which sizes of pictures a network takes here; asked for thousands, it looks at few.

    Parameters
    ----------
    network
        The network.
    copies
        That are explained of each picture.
    fits
        Raises ConfigError where a definition needs more memory than there is.
    """

    def __init__(
        self, network: OpenSize, copies: Copies, fits: Callable[[NetworkDefinition], None]
    ) -> None:
        self._network, self._fits = network, fits
        self._smallest, self._largest = min(copies.scales), max(copies.scales)
        self._few = 0  # pixels that are not too many

    def refuse(self, height: int, width: int) -> Refusal | None:
        """Why pictures of a size are refused, if they are."""
        from shardcam.engine.pictures.resampling import scaled_size
        from shardcam.engine.pipeline.sized_batches import Refusal

        small = scaled_size(height, width, self._smallest)
        large = scaled_size(height, width, self._largest)
        if (reason := self._network.too_small(*small)) is not None:
            at = f"at scale {self._smallest:g} " if self._smallest != 1 else ""
            return Refusal("too small", at + reason)
        if (reason := self._too_large(*large)) is not None:
            return Refusal("too large", reason)
        return None

    def _too_large(self, height: int, width: int) -> str | None:
        if self._network.one_graph and height * width <= self._few:
            return None
        # so that sizes that grow bit by bit are not all looked at
        for more in (2, 1) if self._network.one_graph else (1,):
            try:
                self._fits(self._network.at(more * height, width))
            except (ConfigError, ModelError) as error:
                reason = str(error)
            else:
                self._few = more * height * width
                return None
        return f"at {width}x{height} pixels {reason.partition(': ')[2].partition('; ')[0]}"
