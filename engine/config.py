"""The configuration of a run: every option, its default, and what it means, once.

The command line is made from these fields, ``run.json`` stores them, and the
fingerprint takes those that change the numbers.
"""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shardcam.engine.errors import ConfigError
from shardcam.engine.io.urls import is_url

if TYPE_CHECKING:
    from shardcam.engine.types import Copies, Decoding

SMOOTHINGS = ("aug", "eigen")
SAVEABLE = ("maps", "activations", "pooled", "logits", "heatmaps", "overlays")
LITE0 = "efficientnet_lite0"  # the network that needs no file
RANDOM_PARAMS = "random"
ANY = "any"
RESIZES = ("crop", "squash", "pad", "none")
NATIVE = "none"  # of these: pictures at their own size
SHORTER = r"shorter:(\d{1,9}),crop"
MODEL_FILES = (".json", ".onnx")
PATH_OPTIONS = (
    *("source", "model", "out", "root", "cache", "params", "labels", "label_data"),
    "target_mask",
)
PLACE_OPTIONS = (  # where a run is computed and on what: given anew by each command that does
    *("executor", "workers", "cpus_per_worker", "gpus_per_worker", "decode_processes", "address"),
    *("priority", "batch_size", "hang_timeout", "recycle", "cache", "cache_size"),
)
SEPARATED = ("save", "smooth", "extensions", "scales")  # lists that are given with commas
Channels = tuple[float, ...]
ImageSize = int | tuple[int, int]  # of a square, or height and width
SMALLEST, LARGEST = 8, 4096  # sides of the network's input
LARGEST_SCALE = 4
OPTION_GROUPS = {  # how help and reference list the fields of RunConfig, each once
    "Source": (
        *("source", "extensions", "follow_links", "limit"),
        *("label_from_folder", "label_data", "root", "cache", "cache_size"),
        *("max_pixels", "fast_decode", "decoder", "background", "depth_range"),
    ),
    "Network and its input": (
        *("model", "params", "labels", "output", "input", "rounding", "link"),
        *("runtime", "precision", "calibration_cache", "randomise", "seed"),
        *("image_size", "resize", "scales", "flip", "interpolation", "channels", "mean", "std"),
    ),
    "Explanation": ("method", "target", "target_mask", "layer", "tokens", "fuse", "smooth"),
    "What is saved": (
        *("out", "save", "activation_layer", "activation_dtype", "codec"),
        *("colormap", "alpha", "overlay_format", "overlay_norm"),
    ),
    "Execution": (
        *("executor", "part", "workers", "cpus_per_worker", "gpus_per_worker"),
        *("decode_processes", "address", "priority", "batch_size", "shard_size"),
        *("hang_timeout", "recycle", "max_failed"),
    ),
}


class RunConfig(BaseModel):
    """One frozen value holds all that `shardcam extract` was asked to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="Folder of images (searched recursively), image, glob pattern, "
        "manifest, .rec, .tar, .h5, .npy or IDX file; a path or a URL."
    )
    model: str = Field(
        description="efficientnet_lite0, the name of a network of Gluon's zoo or resnet50_irn "
        "(with --params), NAME-symbol.json or FILE.onnx."
    )
    out: str = Field(
        description="Run directory, or a URL: s3://BUCKET/FOLDER, gs:// or another "
        "scheme that fsspec can write to, with credentials from the environment. If it "
        "holds the same run, that run is resumed."
    )
    params: str | None = Field(
        None,
        description="Weights of a zoo network, resnet50_irn or symbol file: .params, .safetensors "
        "or .pth; 'random' to try one without weights.",
    )
    method: str = Field("gradcam", description="CAM method; `shardcam methods` lists them.")
    smooth: tuple[str, ...] = Field(
        (),
        description="aug: average over mirrored and rescaled copies; eigen: take the "
        "first principal component of the terms instead of their sum; aug,eigen: both.",
    )
    layer: tuple[str, ...] = Field(
        ("auto",),
        description="Layer to explain, repeatable; auto is the last spatial layer, "
        "`shardcam layers` lists all.",
    )
    fuse: Literal["mean", "max", "product"] | None = Field(
        None,
        description="How heatmaps and overlays combine several layers  [default: mean; "
        "product for refinecam]",
    )
    target: str = Field(
        "top1",
        description="What to explain: classes by top1, topK (such as top5), label or "
        "class:ID[,ID...]; labels, all classes in the manifest's column labels, or labels:FILE, "
        "those of a table, IRN's cls_labels.npy, VOC XML or COCO JSON; above:SCORE[,K], at most K "
        "(10) with a higher score; similar:PICTURE or similar:VECTOR.npy, the cosine of the "
        "network's embedding and that one; from:RUN, of each image the classes that another run of "
        "SOURCE explained.",
    )
    target_mask: str | None = Field(
        None,
        description="PNG or .npy (H,W) of a segmentation network's target: a class is explained by "
        "the sum of its scores where this is not black, or not 0, and not where the class wins. "
        "It is fitted to the network's input as the images are.",
    )
    tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens before those of the picture (1: a class token), where the network does "
        "not show which tokens make a map; shardcam layers lists those that it knows.",
    )
    activation_layer: tuple[str, ...] = Field(
        (),
        description="Layer whose values --save activations and --save pooled keep, "
        "repeatable; any layer, dense ones too  [default: the explained layers]",
    )
    activation_dtype: Literal["f4", "f2"] = Field(
        "f4", description="Saved activations in single (f4) or half (f2) precision."
    )
    extensions: tuple[str, ...] = Field(
        (),
        description="Endings of the files that are taken as images, separated by commas, in place "
        "of the known ones; any: all files. What a file holds decides how it is decoded.",
    )
    follow_links: bool = Field(
        False, description="Enter linked folders too, each once; keys are the paths as seen."
    )
    label_from_folder: bool = Field(
        False,
        description="Use the first folder below SOURCE as the label of its images: its number, "
        "the class of its name in --labels, or its position.",
    )
    label_data: str | None = Field(
        None,
        description="Labels of the pictures in .h5, .npy or IDX files: FILE.h5::DATASET, .npy, "
        "IDX, or .txt with one per line; a path or a URL.",
    )
    root: str | None = Field(
        None,
        description="Folder that the paths in a manifest start from  [default: the manifest's]",
    )
    cache: str | None = Field(
        None,
        description="Folder on each machine that keeps images fetched from URLs for the "
        "next run. If files at the URLs are replaced, use another folder.",
    )
    cache_size: float = Field(10.0, gt=0, description="Size limit of --cache in GB.")
    runtime: Literal["auto", "mxnet", "torch"] = Field(
        "auto",
        description="Library that computes the network: mxnet; torch, which must be installed; "
        "auto: mxnet, but torch on GPUs that MXNet has no code for.",
    )
    precision: Literal["fp32", "bf16", "int8", "fp16", "tf32"] = Field(
        "fp32",
        description="Precision of the network up to the explained layer: bf16 and int8 "
        "on CPUs, fp16 on GPUs; with --runtime torch bf16 and tf32 on GPUs too, and no int8. "
        "int8 is calibrated on images of SOURCE.",
    )
    calibration_cache: Literal["on", "off"] = Field(
        "on",
        description="Keep what --precision int8 finds of a network and its pictures for the next "
        "run, in shardcam/int8 of the user's cache folder: 64 files and 64 MiB at most.",
    )
    randomise: str | None = Field(
        None,
        description="Draw the weights anew of LAYER and of all layers from there to the logits; "
        "head: of the last one with weights. See shardcam sanity.",
    )
    seed: int = Field(0, ge=0, description="What --randomise draws from.")
    labels: str | None = Field(
        None, description="Names of the classes: text with one per line, numbered or not, or JSON."
    )
    output: str | None = Field(
        None,
        description="Value that holds the logits, where a model file has several outputs: one of "
        "these, or anything else that the file computes, by its name.",
    )
    input: tuple[str, ...] = Field(
        (),
        description="Numbers for an input of an ONNX file that takes no images, repeatable: one "
        "for all places, or one for each with commas between.",
    )
    rounding: Literal["drop", "keep"] = Field(
        "drop",
        description="Of the activations of a quantised ONNX file: drop computes them in floating "
        "point; keep rounds them as the file does, and gradients pass as if it did not.",
    )
    link: Literal["softmax", "sigmoid", "none"] | None = Field(
        None,
        description="From the network's logits to scores: softmax of one class, sigmoid of one "
        "output or of several labels, none for numbers and embeddings, of which no class is "
        "claimed  [default: what the model file ends in]",
    )
    image_size: ImageSize | None = Field(
        None,
        description="Size of the network's input in pixels: SIDE of a square, or HEIGHT,WIDTH  "
        "[default: the network's own]",
    )
    resize: str = Field(
        "crop",
        description="How an image is fitted to the network's input: the largest centre crop; "
        "squash to its shape; pad; shorter:N,crop: resize the shorter side to N, then crop the "
        "centre, as most networks are tested (shorter:256,crop for an input of 224); or none: take "
        "each image at its own size, if the network can.",
    )
    scales: tuple[float, ...] = Field(
        (1.0,),
        description="With --resize none: explain each image at these sizes too, such as "
        "1,0.5,1.5,2 times its own, resampled as Pillow's BICUBIC does. Scores are those of 1, or "
        "of the first.",
    )
    flip: bool = Field(
        False,
        description="With --resize none: explain each image mirrored left to right as well; of "
        "both maps what is positive is added up.",
    )
    interpolation: Literal["area", "nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "area",
        description="Interpolation when resizing, by OpenCV's names. area averages when "
        "it shrinks an image and is bilinear when it enlarges one; the others never "
        "average.",
    )
    channels: Literal["rgb", "bgr"] | None = Field(
        None,
        description="Order in which the network takes the colours: bgr for networks from Caffe. "
        "--mean and --std are R,G,B all the same.  [default: what an ONNX file states, else rgb]",
    )
    mean: Channels | None = Field(
        None, description="R,G,B to subtract, on the 0-255 scale  [default: the network's own]"
    )
    std: Channels | None = Field(
        None, description="R,G,B to divide by, on the 0-255 scale  [default: the network's own]"
    )
    max_pixels: int = Field(
        100_000_000, ge=1, description="Images with more pixels fail instead of being decoded."
    )
    fast_decode: bool = Field(
        False,
        description="Decode JPEG files at 1/2, 1/4 or 1/8 of their size where that still "
        "covers the network's input: faster, but the maps differ slightly.",
    )
    decoder: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="gpu: decode JPEG files on the GPU, with --runtime torch and torchcodec or "
        "torchvision; the maps differ slightly. What it does not take the CPU decodes.",
    )
    background: tuple[int, ...] | None = Field(
        None,
        description="R,G,B that transparent pictures are laid over, each 0 to 255  [default: "
        "transparency is ignored and the stored colours are used]",
    )
    depth_range: str = Field(
        "auto",
        description="Values that are black and white in pictures of more than 8 bits a channel: "
        "LOW,HIGH; full: all that the file could hold; auto: what the file states, else from 0 to "
        "the smallest of 8, 10, 12, 14 and 16 bits that holds the picture.",
    )
    save: tuple[str, ...] = Field(
        ("maps",), description=f"What to save, separated by commas: {', '.join(SAVEABLE)}."
    )
    codec: Literal["none", "gzip", "zstd", "lz4"] = Field(
        "gzip", description="Compression of the HDF5 files; reading zstd and lz4 needs hdf5plugin."
    )
    overlay_format: Literal["jpg", "png"] = Field("jpg", description="File format of the overlays.")
    overlay_norm: bool = Field(
        False, description="Divide each overlay by its maximum, as pytorch-grad-cam does."
    )
    colormap: Literal["jet", "viridis", "inferno", "turbo"] = Field(
        "jet", description="Colormap of the overlays."
    )
    alpha: float = Field(0.5, ge=0, le=1, description="Opacity of the heatmap in an overlay.")
    limit: int | None = Field(
        None,
        ge=1,
        description="Use only the first LIMIT images. With a larger one, or none, a run grows.",
    )
    shard_size: int | None = Field(
        None,
        ge=1,
        description="Images per shard  [default: 8 to 512, so that there are 16 to 64 shards; of "
        "more than 256,000 images up to 4096, so that there are at most 500 where that suffices]",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Images per batch  [default: 32, or 128 with torch on a GPU, or what a shard "
        "has, or fewer where the head needs much memory]",
    )
    executor: Literal["auto", "ray", "local"] = Field(
        "auto",
        description="ray: worker processes, on many machines with --address; local: everything in "
        "this process; auto: ray for large sets and where options or RAY_ADDRESS ask for it, else "
        "one worker process with all cores.",
    )
    part: str | None = Field(
        None,
        description="I/N: do only every N-th shard, from the I-th on, with --executor local. N "
        "such commands can work on a run at once; the same one without --part then completes it.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Number of Ray workers  [default: as many as the cluster has room "
        "for, and more as nodes join]",
    )
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores, and so threads, per worker.")
    gpus_per_worker: float = Field(
        0.0, ge=0, description="GPUs per worker, a fraction to share one; 0: CPU only."
    )
    decode_processes: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Processes of each worker that read and decode images; 0: threads of the "
        "worker do  [default: as many as a worker on a GPU has cores, else 0]",
    )
    address: str | None = Field(
        None,
        description="Ray cluster to use  [default: RAY_ADDRESS, else a cluster started "
        "on this machine]",
    )
    priority: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Weight against other runs on the same Ray cluster: a run of 2 gets twice as "
        "many workers as a run of 1. They change hands between shards.",
    )
    hang_timeout: float = Field(
        1800.0,
        gt=0,
        description="Seconds without progress after which a worker is replaced; longer "
        "than any forward pass.",
    )
    recycle: int = Field(
        2000, ge=1, description="Shards after which a worker process is replaced by a new one."
    )
    max_failed: float | None = Field(
        None, ge=0, le=1, description="Exit with code 3 if a larger fraction of the images failed."
    )

    @field_validator(*PATH_OPTIONS)
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("is empty")  # and not the current folder
        return value

    @field_validator("save")
    @classmethod
    def _known_outputs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(SAVEABLE))
        if unknown or not value:
            raise ValueError(f"takes {', '.join(SAVEABLE)}; not {', '.join(unknown) or 'nothing'}")
        return tuple(name for name in SAVEABLE if name in value)

    @field_validator("smooth")
    @classmethod
    def _known_smoothings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(SMOOTHINGS))
        if unknown:
            given = ",".join(value) or "nothing"
            raise ValueError(f"takes aug, eigen or aug,eigen; not {given}")
        return tuple(name for name in SMOOTHINGS if name in value)

    @field_validator("part")
    @classmethod
    def _part(cls, value: str | None) -> str | None:
        from shardcam.engine.types import Part  # NumPy's import takes longer than help may

        if value is not None:
            Part.parse(value)
        return value

    @field_validator("extensions")
    @classmethod
    def _endings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.strip().lower().removeprefix("*").removeprefix(".") for name in value)
        if names == (ANY,) or not value:
            return names
        if ANY in names or not all(name and "/" not in name for name in names):
            raise ValueError(f"takes endings such as jpg,png, or {ANY}; not {','.join(value)}")
        return tuple(f".{name}" for name in dict.fromkeys(names))

    @field_validator("image_size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        """A number, two, or texts of them; two equal ones are one."""
        if value is None:
            return None
        given = str(value).split(",") if isinstance(value, int | float | str) else [*value]
        sides = [*map(_whole, given)]
        if len(sides) not in (1, 2) or not all(SMALLEST <= side <= LARGEST for side in sides):
            text = ",".join(map(str, given))
            raise ValueError(
                f"takes SIDE or HEIGHT,WIDTH, such as 224 or 48,192, each {SMALLEST} to {LARGEST}; "
                f"not {text}"
            )
        return sides[0] if len({*sides}) == 1 else tuple(sides)

    @field_validator("resize")
    @classmethod
    def _fit(cls, value: str) -> str:
        shorter = re.fullmatch(SHORTER, value)
        if value not in RESIZES and not (shorter and 1 <= int(shorter[1]) <= LARGEST):
            raise ValueError(
                f"takes {', '.join(RESIZES)} or shorter:N,crop, such as shorter:256,crop; not "
                f"{value}"
            )
        return value

    @field_validator("scales", mode="before")
    @classmethod
    def _factors(cls, value: Any) -> Any:
        """A number, several, or texts of them."""
        words = value.split(",") if isinstance(value, str) else value
        given = words if isinstance(words, list | tuple) else [words]
        try:
            scales = tuple(float(one) for one in given)
        except (TypeError, ValueError):
            scales = ()
        fit = all(0 < one <= LARGEST_SCALE for one in scales)
        if not scales or not fit or len({*scales}) < len(scales):
            raise ValueError(
                f"takes different numbers above 0 and up to {LARGEST_SCALE} with commas between, "
                f"such as 1,0.5,1.5,2; not {','.join(map(str, given))}"
            )
        return scales

    @field_validator("input")
    @classmethod
    def _assignments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = next((text for text in value if not all(text.partition("="))), None)
        if wrong is not None:
            raise ValueError(f"takes NAME=NUMBER[,NUMBER...], such as keep_prob=1; not {wrong}")
        return value

    @field_validator("gpus_per_worker")
    @classmethod
    def _gpus(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError(f"takes a whole number or a part of one, such as 0.5; not {value:g}")
        return value

    @field_validator("std")
    @classmethod
    def _nonzero(cls, value: Channels | None) -> Channels | None:
        if value is not None and not all(0 < v < math.inf for v in value):
            raise ValueError("must be positive")
        return value

    @field_validator("mean")
    @classmethod
    def _finite(cls, value: Channels | None) -> Channels | None:
        if value is not None and not all(map(math.isfinite, value)):
            raise ValueError("must be numbers")
        return value

    @field_validator("background")
    @classmethod
    def _colour(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (len(value) == 3 and all(0 <= v <= 255 for v in value)):
            given = ",".join(map(str, value))
            raise ValueError(f"takes R,G,B, each 0 to 255, such as 255,255,255; not {given}")
        return value

    @field_validator("depth_range")
    @classmethod
    def _black_and_white(cls, value: str) -> str:
        if value not in ("auto", "full"):
            low, high = _two_numbers(value)
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"takes auto, full or LOW,HIGH such as 0,4095; not {value}")
        return value

    @classmethod
    def of(cls, **values: Any) -> RunConfig:
        """Validate options as Python gives them: a single name where several may be, too.

        Raises
        ------
        ConfigError
            One line for the first option that is wrong, called as on the command line.
        """
        for name in ("layer", "activation_layer", "input", *SEPARATED):
            value = values.get(name)
            if isinstance(value, str):
                commas = name in SEPARATED  # as on the command line
                values[name] = tuple(value.split(",")) if commas else (value,)
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name, why = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                near = difflib.get_close_matches(name, cls.model_fields, n=1)
                why = "unknown option" + (f"; nearest: {near[0]}" if near else "")
            elif first["type"] == "missing":
                why = "is missing"
            elif first["type"] != "value_error":
                why = _plainly(name, why, values[name])
            raise ConfigError(f"{typed_name(name)}: {why}") from None

    def absolute(self) -> RunConfig:
        """The same with absolute paths: what another process, or a later day, can use."""
        absolute = {
            name: str(Path(path).absolute())
            for name, path in self.paths().items()
            if not is_url(path)
        }
        if "target" in absolute:
            absolute["target"] = f"{self.target.partition(':')[0]}:{absolute['target']}"
        return self.model_copy(update=absolute)

    @property
    def decoding(self) -> Decoding:
        """How the files of the source become pictures."""
        from shardcam.engine.types import Decoding  # NumPy's import takes longer than help may

        named = self.depth_range in ("auto", "full")
        depth_range = self.depth_range if named else _two_numbers(self.depth_range)
        return Decoding(self.max_pixels, self.fast_decode, self.background, depth_range)

    @property
    def copies(self) -> Copies | None:
        """Which copies of pictures at their own size are explained; None: all have one size."""
        from shardcam.engine.types import Copies

        return Copies(self.scales, self.flip) if self.resize == NATIVE else None

    @property
    def inputs(self) -> dict[str, str]:
        """What `input` gives: the numbers of each name, as text."""
        split = (text.partition("=") for text in self.input)
        return {name: numbers for name, _, numbers in split}

    def paths(self) -> dict[str, str]:
        """The options that are paths or URLs here, not names: of `PATH_OPTIONS`, and `target`."""
        given = {name: getattr(self, name) for name in PATH_OPTIONS}
        if self.target.startswith(("similar:", "from:", "labels:")):
            given["target"] = self.target.partition(":")[2]
        if not self.model.endswith(MODEL_FILES):
            del given["model"]
        if self.params == RANDOM_PARAMS:
            del given["params"]
        return {name: path for name, path in given.items() if path is not None}


def _plainly(name: str, why: str, value: Any) -> str:
    """What pydantic says of a value, as the other refusals say it."""
    given = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if name in ("mean", "std"):
        return f"takes R,G,B with commas between, such as 123.7,116.3,103.5; not {given}"
    if name == "background":
        return f"takes R,G,B, each 0 to 255, such as 255,255,255; not {given}"
    must = why.replace("Input should be", "must be").partition(", unable")[0]
    return f"{must}; not {given}"


def _two_numbers(text: str) -> tuple[float, float]:
    """``LOW,HIGH``; NaN where it is not."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        return math.nan, math.nan
    return low, high


def _whole(value: Any) -> int:
    """A number of pixels, or the text of one; 0 where it is not."""
    text = str(value).strip()
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def sides_of(image_size: ImageSize) -> tuple[int, int]:
    """Height and width."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def size_text(height: int, width: int) -> str:
    """A size as `--image-size` takes it."""
    return f"{height}" if height == width else f"{height},{width}"


def flag(name: str) -> str:
    """``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def typed_name(name: str) -> str:
    """A field as it is typed, for messages."""
    return "SOURCE" if name == "source" else flag(name)
