"""PyTorch's runtime on the CPU beside MXNet's: the same photographs, networks, layers and methods.

    OMP_NUM_THREADS=1 python -m benchmarks.runtimes [--network NAME]... [--json FILE]

`make bench-runtimes` makes what it needs. PyTorch is installed, or in SHARDCAM_TORCH_PACKAGES as
for tests/torch. Results are saved network by network, and those in the file are not computed again;
a row of the table in docs/models.md is printed for each.

Both runtimes explain the class that MXNet finds first, at three layers: the one that `auto` takes,
one half-way, and the first of those that have the fewest channels. Methods share their gradients;
those that make more passes get fewer of the photographs. Maps differ by the largest difference of
any position, as a share of the largest value of MXNet's map. Where that exceeds the goal, both are
compared with the same formula on values of float64.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf, prod
from pathlib import Path
from typing import Any

import benchmarks.all_cores  # noqa: F401  (before MXNet)
import tests.torch.conftest  # noqa: F401  (PyTorch from an environment of its own)

# isort: split
import click
import numpy as np
import torch

from benchmarks.photographs import write_photographs
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.arrays import on_host
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.registry import EACH_BLOCK, CamMethod
from shardcam.engine.methods.smoothing import smoothed_maps
from shardcam.engine.models.attention_layers import attention_layers
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import cut
from shardcam.engine.models.layer_names import (
    FEATURES,
    auto_layer,
    idle_layers,
    map_layouts,
    resolve_layer,
    with_maps,
)
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.normalise import normalised
from shardcam.engine.models.torch.torch_network import TorchNetwork
from shardcam.engine.models.torch.torch_program import Program, Weights
from shardcam.engine.pictures.imaging import stacked, view_of
from shardcam.engine.pipeline.targets import top_classes
from shardcam.engine.types import Decoding

EXPORTS, LENET = Path("build/torch-exports"), Path("runs/mnist/lenet-symbol.json")
NETWORKS = {  # the model, and its weights
    "EfficientNet-Lite0, trained": ("efficientnet_lite0", None),
    "LeNet, trained on digits": (LENET, None),
    "AlexNet": ("alexnet", EXPORTS / "alexnet.pth"),
    "VGG11-BN": ("vgg11_bn", EXPORTS / "vgg11_bn.safetensors"),
    "SqueezeNet 1.1": ("squeezenet1.1", EXPORTS / "squeezenet1.1.pth"),
    "ResNet-18 v2": ("resnet18_v2", "random"),
    "ResNet-50": (EXPORTS / "resnet50.script.onnx", None),
    "DenseNet-121": (EXPORTS / "densenet121.script.onnx", None),
    "MobileNetV3": (EXPORTS / "mobilenet_v3_large.dynamo.onnx", None),
    "ConvNeXt-tiny": (EXPORTS / "convnext_tiny.dynamo.onnx", None),
    "DeiT-tiny, 3 blocks": (EXPORTS / "families/deit_tiny_patch16_224.dynamo.onnx", None),
    "Swin-tiny": (EXPORTS / "families/swin_tiny_patch4_window7_224.script.onnx", None),
}
LOGITS, MAPS = 1e-5, 1e-4  # the goals
BATCH = 8
LEAST_CHANNELS = 16
MOST_POSITIONS = 256
INPUT = "the input"
UNCHECKED = ("attention", "rollout", "fullgrad")  # by float64
MANY = ("scorecam", "ablationcam")  # a pass for each channel
DIVIDES = ("gradcam++", "refinecam", "smoothgradcam++", "xgradcam")  # by what may be near zero
AUGMENTED = ("gradcam", "layercam")  # by --smooth aug
CHECKED = 3  # maps of a method and layer, each the worst of a batch, at most: by float64

Figures = dict[str, Any]
Formula = Callable[..., Any]
MOST_PIXELS = RunConfig.model_fields["max_pixels"].default


@dataclass(frozen=True)
class Counts:
    """How many of the photographs each kind of method gets."""

    all: int
    several: int
    many: int


def layers_of(definition: NetworkDefinition) -> dict[str, str]:
    """Names of the last, a middle and the narrowest layer; some may be the same."""
    last, layouts, idle = auto_layer(definition), map_layouts(definition), idle_layers(definition)
    names = [
        node.name
        for node in definition.graph.nodes
        if node.op in FEATURES and node.op != "Convolution" and node.name in layouts.keys() - idle
    ]
    below = names[: names.index(last)]

    def width(name: str) -> float:
        channels, *size = layouts[name].shape
        return channels if channels >= LEAST_CHANNELS and min(size) > 1 else inf

    return {
        "last": last,
        "half-way": below[len(below) // 2],
        "narrowest": min(below, key=width),
    }


def bound(
    definition: NetworkDefinition, layers: Sequence[str], attention: Sequence[str] = ()
) -> tuple[MxnetNetwork, TorchNetwork]:
    """The network by both runtimes, in float32 on one core."""
    layers, attention = tuple(dict.fromkeys(layers)), tuple(attention)
    laid = with_maps(definition, [*layers, *attention])
    return (
        MxnetNetwork(definition, layers, BATCH, attention=attention),
        TorchNetwork(laid, layers, BATCH, attention=attention),
    )


class Shared:
    """A layer of a pass whose gradients are computed once, whichever methods ask for them."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._gradients: dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def gradient(self, direction: Any) -> Any:
        key = direction.tobytes()
        if key not in self._gradients:
            self._gradients[key] = self._view.gradient(direction)
        return self._gradients[key]


class ExactHead:
    """From a layer to the logits in float64; what a formula reads is rounded."""

    def __init__(self, program: Program, crossing: Sequence[str], taps: Sequence[Any]) -> None:
        self._tap = taps[0].detach().requires_grad_()
        (self._output,) = program(dict(zip(crossing, [self._tap, *taps[1:]], strict=True)))

    @property
    def activation(self) -> Any:
        return self._tap.detach().float().contiguous().numpy()

    @property
    def logits(self) -> Any:
        return self._output.detach().float().numpy()

    def gradient(self, direction: Any) -> Any:
        along = torch.from_numpy(direction).double()
        (found,) = torch.autograd.grad(self._output, self._tap, along, retain_graph=True)
        return found.float().contiguous().numpy()


class Exact(ExactHead):
    """A layer computed in float64 from the images that a view of MXNet's was given."""

    def __init__(self, like: Any, definition: NetworkDefinition, layer: str, images: Any) -> None:
        self.images = np.ascontiguousarray(images)
        self._like, self._definition, self._layer = like, with_maps(definition, [layer]), layer
        at = cut(self._definition.graph, layer, definition.parameters)
        weights = Weights(definition.parameters, torch.device("cpu"), torch.float64)
        backbone = Program(self._definition.graph, at.backbone, weights)
        with torch.no_grad():
            given = torch.from_numpy(self.images).double()
            self._taps = backbone({definition.input_name: given})
        self._head = partial(ExactHead, Program(at.head, at.head.heads, weights), at.crossing)
        super().__init__(*self._head.args, self._taps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._like, name)

    def at(self, activation: Any, image: Any, differentiable: bool = False) -> ExactHead:
        given = torch.from_numpy(np.ascontiguousarray(activation)).double()
        return self._head([given, *(tap[torch.from_numpy(image).long()] for tap in self._taps[1:])])

    def of(self, images: Any) -> Exact:
        return Exact(self._like, self._definition, self._layer, images)


class Comparison:
    """One network by both runtimes, over the same photographs."""

    def __init__(self, name: str, files: Sequence[Path], counts: Counts) -> None:
        model, weights = NETWORKS[name]
        self.definition = load_network(str(model), weights and str(weights))
        preprocessing, decoding = self.definition.preprocessing, Decoding(MOST_PIXELS)
        views = [view_of(file.read_bytes(), None, preprocessing, decoding) for file in files]
        pixels = stacked([view.pixels for view in views], preprocessing)
        self.images = normalised(pixels, preprocessing)
        self.counts, self.layers = counts, layers_of(self.definition)
        self.logits: list[float] = []  # of each photograph, as are `gaps`
        self.gaps: dict[str, list[float]] = {}
        self.exact: dict[str, list[list[float]]] = {}
        self._targets: list[Any] = []
        self._same: list[bool] = []

    def run(self) -> Figures:
        begun = time.process_time()
        for group in (self._single, self._attention, self._several, self._many):
            group()
        shapes = map_layouts(self.definition)
        return {
            "layers": {kind: [name, *shapes[name].shape] for kind, name in self.layers.items()},
            "logits": self.logits,
            "same": self._same,
            "first classes": np.concatenate(self._targets)[:, 0].tolist(),
            "gaps": self.gaps,
            "exact": self.exact,
            "seconds": round(time.process_time() - begun),
        }

    def _single(self) -> None:
        """What a forward pass and a backward pass give to all methods that need no more."""
        layers = {kind: self.layers[kind] for kind in ("last", "half-way")}
        both = bound(self.definition, list(layers.values()))
        for part in parts(self.counts.all):
            ours, theirs = (network.forward(self.images[part]) for network in both)
            self._note_logits(ours.logits, theirs.logits)
            for kind, layer in layers.items():
                pair = [Shared(run.layer(layer)) for run in (ours, theirs)]
                for name, method in single_pass(pair[0]):
                    self._note(f"{name}, {kind}", pair, method, layer, part)
                    if method.supports_eigen_smooth and part.stop <= self.counts.several:
                        eigen = partial(method, combine=FirstComponent())
                        self._note(f"{name} --smooth eigen, {kind}", pair, eigen, layer, part)

    def _attention(self) -> None:
        info = resolve_layer(self.definition, self.layers["last"])
        for name, method in METHODS.items():
            if method.reads_attention:
                with suppress(ConfigError):  # there is none between all tokens
                    every = method.reads_attention == EACH_BLOCK
                    read = attention_layers(self.definition, info, every)
                    self._alone(name, "last", self.counts.all, read)

    def _several(self) -> None:
        """A few passes for each photograph."""
        count, layer = self.counts.several, self.layers["last"]
        for kind in ("last", "half-way"):
            self._alone("smoothgradcam++", kind, count)
        self._alone("fullgrad", INPUT, count)
        both = bound(self.definition, [layer])
        for part in parts(count):
            for name in AUGMENTED:
                target = np.concatenate(self._targets)[part]
                found = [
                    smoothed_maps(network, METHODS[name], self.images[part], target)[layer]
                    for network in both
                ]
                self._note_gaps(f"{name} --smooth aug, last", *map(on_host, found))

    def _many(self) -> None:
        """A pass for each channel."""
        for name in MANY:
            self._alone(name, "narrowest", self.counts.many)

    def _alone(self, name: str, kind: str, count: int, attention: Sequence[str] = ()) -> None:
        """A method that shares nothing with others."""
        layer = self.definition.input_name if kind == INPUT else self.layers[kind]
        both = bound(self.definition, [layer], attention)
        for part in parts(count):
            pair = [network.forward(self.images[part]).layer(layer) for network in both]
            self._note(f"{name}, {kind}", pair, METHODS[name], layer, part)

    def _note_logits(self, ours: Any, theirs: Any) -> None:
        self.logits += gaps(ours, theirs).tolist()
        self._same += (ours.argmax(axis=1) == theirs.argmax(axis=1)).tolist()
        self._targets.append(top_classes(ours, 1))

    def _note(
        self, name: str, pair: Sequence[Any], formula: Formula, layer: str, part: slice
    ) -> None:
        """Compare the maps of a batch; the one that differs most with float64's, if it must be."""
        target = np.concatenate(self._targets)[part]
        maps = [on_host(formula(view, target)) for view in pair]
        found = self._note_gaps(name, *maps)
        worst = int(found.argmax())
        checked = self.exact.setdefault(name, [])
        if found[worst] > MAPS and len(checked) < CHECKED and not name.startswith(UNCHECKED):
            one = slice(worst, worst + 1)
            exact = formula(self._exactly(pair[0], layer, part.start + worst), target[one])
            apart = [float(gaps(exact, values[one])[0]) for values in maps]
            checked.append([part.start + worst, float(found[worst]), *apart])

    def _note_gaps(self, name: str, ours: Any, theirs: Any) -> Any:
        found = gaps(ours, theirs)
        self.gaps.setdefault(name, []).extend(found.tolist())
        return found

    @lru_cache(maxsize=1)  # noqa: B019  (the next comparison has other arguments)
    def _exactly(self, like: Any, layer: str, number: int) -> Exact:
        return Exact(like, self.definition, layer, self.images[number : number + 1])


def single_pass(view: Any) -> Iterator[tuple[str, CamMethod]]:
    """What one gradient is enough for; a kernel between very many positions takes minutes."""
    for name, method in METHODS.items():
        many = name == "kpcacam" and prod(view.activation.shape[2:]) > MOST_POSITIONS
        if method.multi_pass or method.reads_attention or many:
            continue
        if name == "cam" and not view.closed_form:
            continue
        yield name, method


def parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def gaps(ours: Any, theirs: Any) -> Any:
    """(N,...) twice -> (N,) the largest difference as a share of the largest value of `ours`."""
    ours, theirs = (values.reshape(len(values), -1).astype(np.float64) for values in (ours, theirs))
    alike = np.isnan(ours) & np.isnan(theirs)
    apart = np.where(alike, 0, np.abs(ours - theirs)).max(axis=1)
    largest = np.where(alike, 0, np.abs(ours)).max(axis=1)
    found = np.divide(apart, largest, out=np.where(apart == 0, 0, inf), where=largest > 0)
    return np.nan_to_num(found, nan=inf, posinf=inf)


def row(name: str, found: Figures) -> str:
    """Of the table in docs/models.md."""
    of = {case: np.array(values) for case, values in found["gaps"].items()}
    divides = {case for case in of if case.startswith(DIVIDES)}
    last = {case for case in of if case.endswith(", last")} - divides
    cells = (
        name,
        f"{max(found['logits']):.1e}",
        f"{100 * np.mean(found['same']):.0f} %, {len(set(found['first classes']))}",
        f"{len(of)}, {sum(map(len, of.values())):,}",
        f"{np.median(np.concatenate([of[case] for case in of.keys() - divides])):.1e}",
        *(
            _differences({case: of[case] for case in of if case in cases})
            for cases in (last, of.keys() - last - divides, divides)
        ),
    )
    return f"| {' | '.join(cells)} |"


def _differences(of: dict[str, Any]) -> str:
    """The share within the goal, and if that is not all of them the largest."""
    within = 100 * np.mean(np.concatenate([*of.values()]) <= MAPS)
    worst = max(of, key=lambda case: of[case].max())
    return "all" if within == 100 else f"{within:.2f} %; {of[worst].max():.0e}, {worst}"


@click.command(help=__doc__.splitlines()[0])
@click.option("--network", "names", multiple=True, type=click.Choice([*NETWORKS]))
@click.option("--images", default=(200, 8, 1), type=(int, int, int), show_default=True,
              help="Photographs for methods of one pass, several, one a channel.")  # fmt: skip
@click.option("--json", "path", default=Path("build/runtimes.json"), type=Path)
def main(names: Sequence[str], images: tuple[int, int, int], path: Path) -> None:
    torch.set_num_threads(1)
    found = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder, "photographs"), images[0])
        files = sorted(Path(folder, "photographs").iterdir())
        for name in names or NETWORKS:
            if name not in found:
                found[name] = Comparison(name, files, Counts(*images)).run()
                path.write_text(json.dumps(found))
            print(row(name, found[name]), flush=True)


if __name__ == "__main__":
    main()
